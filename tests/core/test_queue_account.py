"""The account of a queue: the first worker writes it down, and no call of the queue leaves through another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.contract.samples import ManualClock
from tests.support.manual_time import passing, passing_beside
from tests.support.stores import clocked
from tests.support.voices import ScriptedVoice, turned_away
from tests.support.workers import enqueued, worker_for
from voiceflow_worker import Store, VoiceClient
from voiceflow_worker.core.base.identity import accounts_of
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.heartbeats import FRESH
from voiceflow_worker.core.queue_account import QueueAccount
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.copying import replace

pytestmark = pytest.mark.anyio

store = clocked("memory")
Passing = Callable[[], Awaitable[object]]


@dataclass
class OwnedVoice(ScriptedVoice):
    """One that says whose calls it places."""

    account: str = "acme at voice.8x8.com"


async def test_a_worker_of_another_account_is_refused_and_calls_nobody(clock: ManualClock, store: Store) -> None:
    await enqueued(store, 2)
    first, second = OwnedVoice(), OwnedVoice(account="staging at this machine")
    await passing(clock, worker_for(store, first).drain)
    await enqueued(store, 2, first=2)
    with pytest.raises(SettingsError, match=r"belongs to the sub-account acme at voice[.]8x8[.]com, and this process"):
        await worker_for(store, second).drain()
    assert (len(first.placed), second.placed) == (2, [])
    await passing(clock, worker_for(store, OwnedVoice()).drain)
    assert await QueueAccount(store, "other").problem(second.account) is None


async def test_a_person_writes_another_account_down_while_no_worker_runs(clock: ManualClock, store: Store) -> None:
    voice, account = OwnedVoice(), QueueAccount(store, "default")
    worker = worker_for(store, voice)

    async def changed() -> None:
        await clock.sleep(3)
        with pytest.raises(SettingsError, match=f"stop its workers first \\({worker.id}\\)"):
            await account.replace("staging at this machine")
        worker.stop()

    await passing_beside(clock, [worker], changed)
    clock.advance(FRESH)
    await account.replace("staging at this machine")
    await enqueued(store, 1)
    await passing(clock, worker_for(store, OwnedVoice(account="staging at this machine")).drain)
    with pytest.raises(SettingsError):
        await worker_for(store, voice).drain()


async def test_a_worker_that_runs_ends_within_a_minute_once_its_queue_has_another(
    clock: ManualClock, store: Store
) -> None:
    voice = OwnedVoice()

    async def changed() -> None:
        await clock.sleep(1)
        await accounts_of(store).put({"default": "staging at this machine"})
        await clock.sleep(70)
        await enqueued(store, 1)

    with pytest.raises(ExceptionGroup) as raised:
        await passing_beside(clock, [worker_for(store, voice)], changed)
    assert raised.group_contains(SettingsError, match="belongs to the sub-account staging at this machine")
    assert voice.placed == []


@pytest.mark.parametrize("status", [401, None], ids=["an answer", "a fault of this machine"])
async def test_an_answer_about_the_account_holds_each_of_its_queues(
    clock: ManualClock, store: Store, status: int | None
) -> None:
    await accounts_of(store).put({"evening": "acme at voice.8x8.com", "staging": "staging at this machine"})
    await enqueued(store, 1)
    answer = replace(turned_away(401, "it is wrong", until_opened=True), http_status=status)
    await passing(clock, worker_for(store, OwnedVoice(answers=[answer])).drain)
    held = {name: [gate.reason for gate in await gates_of(store, name)] for name in ("default", "evening", "staging")}
    assert held == {"default": ["it is wrong"], "evening": ["it is wrong"] if status else [], "staging": []}


@pytest.mark.parametrize(
    ("url", "account"),
    [
        (None, "acme at voice.8x8.com"),
        ("https://voice.example.com/api", "acme at voice.example.com"),
        ("http://127.0.0.1:8088", "acme at this machine"),
        ("http://localhost:9000", "acme at this machine"),
    ],
)
def test_an_account_is_a_sub_account_and_a_host(url: str | None, account: str) -> None:
    assert VoiceClient("key", "acme", base_url=url).account == account
