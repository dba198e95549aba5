"""Trips to the store that are made at the same time: their results, and their errors."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from voiceflow_worker.core.ports.retrying import gather
from voiceflow_worker.errors import JobNotFoundError, StoreUnavailableError

pytestmark = pytest.mark.anyio


async def test_the_results_are_in_the_order_of_the_trips_whichever_ends_first() -> None:
    second_ended = anyio.Event()

    async def first() -> str:
        await second_ended.wait()
        return "first"

    async def second() -> int:
        second_ended.set()
        return 2

    with anyio.fail_after(30):
        assert await gather(first, second) == ("first", 2)


async def test_the_first_error_is_raised_after_all_trips_have_ended() -> None:
    failed = anyio.Event()
    ended: list[int] = []

    async def fails() -> None:
        failed.set()
        raise StoreUnavailableError("the store is away")

    async def goes_on(number: int) -> None:
        await failed.wait()
        ended.append(number)
        if number == 2:
            raise JobNotFoundError("job-2")

    with anyio.fail_after(30), pytest.raises(StoreUnavailableError, match="the store is away"):
        await gather(*(partial(goes_on, number) for number in (1, 2, 3)), fails)
    assert sorted(ended) == [1, 2, 3]
