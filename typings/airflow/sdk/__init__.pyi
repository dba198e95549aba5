from airflow.providers.common.compat.sdk import DAG as DAG
from airflow.providers.common.compat.sdk import task as task
