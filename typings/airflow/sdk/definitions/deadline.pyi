from collections.abc import Mapping
from datetime import timedelta
from typing import Any

class AsyncCallback:
    def __init__(self, callback_callable: Any, kwargs: Mapping[str, Any] | None = None) -> None: ...

class DeadlineReference:
    DAGRUN_QUEUED_AT: Any
    DAGRUN_LOGICAL_DATE: Any

class DeadlineAlert:
    def __init__(
        self, reference: Any, interval: timedelta, callback: AsyncCallback, name: str | None = None
    ) -> None: ...
