from typing import Any

from airflow.sdk.types import TaskInstanceKey

class XCom:
    @classmethod
    def get_value(cls, *, key: str, ti_key: TaskInstanceKey) -> Any: ...
