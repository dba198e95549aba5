from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseNotifier, BaseOperator

class ApprovalOperator(BaseOperator):
    notifiers: Sequence[BaseNotifier]
    def __init__(self, *, task_id: str, subject: str, **kwargs: Any) -> None: ...
