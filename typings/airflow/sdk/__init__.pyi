from typing import Any

from airflow.providers.common.compat.sdk import DAG as DAG
from airflow.providers.common.compat.sdk import Asset as Asset
from airflow.providers.common.compat.sdk import task as task

class AssetWatcher:
    def __init__(self, *, name: str, trigger: Any) -> None: ...
