from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

class AdvanceOutcome:
    @property
    def is_clean(self) -> bool: ...

class AdvanceItem(NamedTuple):
    broker_payload: Any
    outcome: AdvanceOutcome

class SharedStreamProducer:
    def open_stream(self) -> AsyncIterator[tuple[Any, Any]]: ...
    async def advance(self, batch: Sequence[AdvanceItem]) -> None: ...
    async def aclose(self) -> None: ...
