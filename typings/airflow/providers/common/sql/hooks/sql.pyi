from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseHook

class DbApiHook(BaseHook):
    def __init__(self, **kwargs: Any) -> None: ...
    def run(self, sql: str, *, parameters: Any = None, handler: Callable[[Any], Any] | None = None) -> Any: ...
