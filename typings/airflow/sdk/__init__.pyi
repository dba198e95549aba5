from airflow.providers.common.compat.sdk import DAG as DAG
from airflow.providers.common.compat.sdk import Asset as Asset
from airflow.providers.common.compat.sdk import AssetWatcher as AssetWatcher
from airflow.providers.common.compat.sdk import task as task
