from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from logging import Logger
from typing import Any, ClassVar, NoReturn, Self, TypeAlias, overload

from airflow.sdk.types import TaskInstanceKey
from airflow.triggers.base import BaseTrigger

Context: TypeAlias = Mapping[str, Any]

class _Configuration:
    def get(self, section: str, key: str, *, fallback: str | None = None) -> str | None: ...
    def getfloat(self, section: str, key: str, *, fallback: float = ...) -> float: ...
    def getboolean(self, section: str, key: str, *, fallback: bool | None = None) -> bool: ...

conf: _Configuration

class Connection:
    conn_id: str
    conn_type: str
    host: str | None
    schema: str | None
    password: str | None
    port: int | None
    extra: str | None
    @property
    def extra_dejson(self) -> dict[str, Any]: ...
    def get_uri(self) -> str: ...

class _Logging:
    @property
    def log(self) -> Logger: ...

class BaseHook(_Logging):
    conn_name_attr: ClassVar[str]
    default_conn_name: ClassVar[str]
    conn_type: ClassVar[str]
    hook_name: ClassVar[str]
    def __init__(self, logger_name: str | None = None) -> None: ...
    @classmethod
    def get_connection(cls, conn_id: str) -> Connection: ...
    @classmethod
    def get_hook(cls, conn_id: str) -> BaseHook: ...
    def get_conn(self) -> Any: ...

class XComArg:
    def __rshift__(self, other: Any) -> Any: ...
    def __getitem__(self, item: str) -> XComArg: ...

class BaseOperatorLink:
    name: str
    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str: ...

class _Mapped:
    output: XComArg
    def __rshift__(self, other: Any) -> Any: ...

class _Partial:
    def expand(self, **kwargs: Any) -> _Mapped: ...
    def expand_kwargs(self, kwargs: Any) -> _Mapped: ...

class BaseOperator(_Logging):
    task_id: str
    template_fields: Sequence[str]
    template_fields_renderers: ClassVar[dict[str, str]]
    operator_extra_links: Sequence[BaseOperatorLink]
    ui_color: str
    output: XComArg
    execution_timeout: timedelta | None
    def __init__(self, *, task_id: str, **kwargs: Any) -> None: ...
    @classmethod
    def partial(cls, **kwargs: Any) -> _Partial: ...
    def execute(self, context: Context) -> Any: ...
    def on_kill(self) -> None: ...
    def render_template(self, content: Any, context: Any) -> Any: ...
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any: ...
    def render_template_fields(self, context: Context) -> None: ...
    def defer(
        self,
        *,
        trigger: BaseTrigger,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta | None = None,
    ) -> NoReturn: ...
    def __rshift__(self, other: Any) -> Any: ...

class PokeReturnValue:
    is_done: bool
    xcom_value: Any
    def __init__(self, is_done: bool, xcom_value: Any = None) -> None: ...
    def __bool__(self) -> bool: ...

class BaseSensorOperator(BaseOperator):
    poke_interval: float
    timeout: float
    mode: str
    reschedule: bool
    soft_fail: bool
    never_fail: bool
    def __init__(self, *, task_id: str, poke_interval: timedelta | float = 60, **kwargs: Any) -> None: ...
    def poke(self, context: Context) -> bool | PokeReturnValue: ...

class BaseNotifier(_Logging):
    template_fields: Sequence[str]
    context: Context
    def __init__(self) -> None: ...
    def notify(self, context: Context) -> None: ...
    def __call__(self, *args: Any) -> None: ...

class DAG:
    dag_id: str
    def __init__(
        self,
        dag_id: str,
        *,
        schedule: Any = None,
        start_date: datetime | None = None,
        default_args: Mapping[str, Any] | None = None,
        on_failure_callback: Any = None,
        **kwargs: Any,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
    def test(self, **kwargs: Any) -> Any: ...

class _TaskDecorator:
    @overload
    def __call__(self, python_callable: Callable[..., Any]) -> Callable[..., Any]: ...
    @overload
    def __call__(self, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
    def branch(self, python_callable: Callable[..., Any]) -> Callable[..., Any]: ...
    def short_circuit(self, python_callable: Callable[..., Any]) -> Callable[..., Any]: ...
    def sensor(self, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...

task: _TaskDecorator

class Asset:
    name: str
    def __init__(self, name: str, **kwargs: Any) -> None: ...
