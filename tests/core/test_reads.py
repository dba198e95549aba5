"""The reads of jobs refuse what no store can keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports.reads import ById, ByKey, Listing, OfNumber, Read, Waiting
from voiceflow_worker.errors import InvalidInputError

READS: dict[str, Callable[[str], Read]] = {
    "an id": lambda text: ById(("default.1", text)),
    "a key": lambda text: ByKey("default", ("k", text)),
    "the batch of what waits": lambda text: Waiting(queue="default", batch=text),
    "a number": lambda text: OfNumber(queue="default", number=text),
    "the place of a number": lambda text: OfNumber(queue="default", number="+65", after=text),
    "a batch": lambda text: Listing(queue="default", batch=text),
    "an outcome": lambda text: Listing(queue="default", outcomes=frozenset({"BUSY", text})),
    "a place": lambda text: Listing(queue="default", after=text),
}
UNSTORABLE = ["a\0", "\0", "\ud800", "a\udfff"]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_no_read_asks_a_store_for_a_text_that_none_can_keep(read: Callable[[str], Read]) -> None:
    for text in UNSTORABLE:
        with pytest.raises(InvalidInputError, match="which no store can keep; remove it"):
            read(text)
    read("")
    read("你好 👋")


@pytest.mark.anyio
async def test_an_id_from_outside_that_no_store_can_keep_is_of_no_job() -> None:
    assert await get_jobs(MemoryStore(), [f"default.{text}" for text in UNSTORABLE]) == {}
