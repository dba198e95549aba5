from datetime import timedelta
from typing import Any

from airflow.triggers.base import BaseTrigger

class AirflowException(Exception): ...  # noqa: N818
class AirflowFailException(AirflowException): ...
class AirflowSkipException(AirflowException): ...
class AirflowSensorTimeout(AirflowException): ...
class AirflowTaskTimeout(BaseException): ...
class TaskDeferralTimeout(AirflowException): ...

class TaskDeferred(BaseException):
    trigger: BaseTrigger
    method_name: str
    kwargs: dict[str, Any] | None
    timeout: timedelta | None
