"""Seeded defects: the contract finds a store that breaks one of its sentences on purpose.

A suite that is green for every store proves nothing. Break your own store on purpose too:

    @pytest.mark.anyio
    async def test_the_contract_finds_a_store_that_forgets_conditions() -> None:
        store = MyStoreThatForgetsConditions()
        await assert_found("test_a_failed_condition_tells_its_key_its_value_and_its_end", store)
"""

from __future__ import annotations

from inspect import signature

import anyio
import pytest

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreError

from .suite import StoreContract


async def assert_found(test: str, store: Store, other: Store | None = None, *, within: float = 5) -> None:
    """Fail unless this test of the contract fails for a store with a seeded defect.

    `other` is the same storage as another process has opened it; by default, `store` itself. A test that is not over
    `within` so many seconds has failed.
    """
    given = {"store": store, "other": store if other is None else other}
    run = getattr(StoreContract(), test)
    with pytest.raises(BaseException) as red:  # noqa: PT011 - an error group, or one of those below
        with anyio.fail_after(within):
            await run(*[given.get(name, store) for name in signature(run).parameters])
    assert all(isinstance(each, AssertionError | TimeoutError | StoreError) for each in leaves(red.value)), red.value


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of errors, and in its groups; an error itself if it is no group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]
