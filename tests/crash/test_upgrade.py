"""A store of the version before, upgraded under a campaign that workers and receivers of both versions call together.

The upgrade is killed at generated moments, and given again until it is done. Meanwhile people use the pages and the
HTTP API of a receiver of each version.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.console.signing_in import OPERATORS, READERS, Form
from tests.crash.asked import Asked, Kind, Register
from tests.crash.judge import judge
from tests.support.crm import SECRET, running_crm
from tests.support.flows import flow
from tests.support.next_version import DIGESTS
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT, Process, running, voiceflow
from tests.support.redis_server import free_port
from tests.support.round_robin import round_robin
from tests.support.stage import PLAIN, Stage, stage
from tests.support.stores import DURABLE, new_name, renumber
from tests.support.version_before import installed_before, upgraded
from tests.support.waiting import wait_until
from voiceflow_worker import CallRequest, open_store
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.backends.postgres.url import SCHEMA
from voiceflow_worker.backends.registry import backend_for
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.backends.sqlite.store import SqliteStore
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import Page

CALLS = int(os.environ.get("TEST_UPGRADE_CALLS", "2000"))
CALLS_OF_FIRST = min(400, CALLS)
"""In the first run, which is one of the short tests."""
RATE = 40
RUNS = 30
ENDS = {"completed", "unreached", "failed", "in_doubt"}
MOST_KILLS = 3


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the version before is installed."""
    return installed_before(tmp_path_factory.mktemp("before"))


@pytest.fixture
def written_before(
    request: pytest.FixtureRequest, fresh_url: Callable[[str], str], before: Path
) -> Callable[[str], str]:
    """Gives the URL of a store of a backend that the version before has made."""

    def url(backend: str) -> str:
        if backend == "postgres":  # a schema that nobody has made yet
            server: PostgresServer = request.getfixturevalue("postgres_server")
            made = server.url(schema=new_name(), connect_timeout="30")
        else:
            made = fresh_url(backend)
        done = voiceflow("doctor", "--make", env={"VOICEFLOW_STORE": made}, folder=before)
        assert done.stdout, done.told
        return made

    return url


def _has_ended(scene: Stage) -> bool:
    with suppress(JSONDecodeError):  # a busy machine did not open the store in time
        return scene.states().keys() <= ENDS
    return False


PROGRAMS = "a-secret-of-programs"


class Person:
    """Somebody who uses the pages and the HTTP API of one receiver."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        address = f"http://127.0.0.1:{port}"
        headers = {"ui": {"Origin": address}, "v1": {"Authorization": f"Bearer {PROGRAMS}"}}
        self._pages, self._programs = (
            stack.enter_context(httpx.Client(base_url=f"{address}/{home}", headers=given, timeout=60, **PLAIN))
            for home, given in headers.items()
        )
        signed_in = self._pages.post("sign-in", data={"name": "Mary Tan", "secret": OPERATORS, "way": ""})
        assert signed_in.status_code == 303, signed_in.text

    def page(self, path: str) -> str:
        shown = self._pages.get(path)
        assert shown.status_code == 200, shown.text
        return shown.text

    def act(self, action: str, **typed: str) -> None:
        form = Form(self.page(f"act/{action}?queue=default&batch=campaign"))
        done = self._pages.post(f"act/{action}", data=form.values(**typed))
        assert done.status_code == 303, done.text

    def asks(self, method: str, path: str) -> dict[str, Any]:
        answer = self._programs.request(method, path)
        assert answer.status_code in {200, 201}, answer.text
        found: dict[str, Any] = answer.json()
        return found


def used_together(ports: Sequence[int], opt_outs: Iterator[int]) -> None:
    """What a person of one receiver orders, that of the other one sees, and may take back; and the other way round."""
    with ExitStack() as stack:
        mary, li = (Person(port, stack) for port in ports)
        for one, other in ((mary, li), (li, mary)):
            _act_together(one, other, opt_outs)


def _act_together(one: Person, other: Person, opt_outs: Iterator[int]) -> None:
    note, number = f"wrong text {next(opt_outs)}", f"+65{next(opt_outs)}"
    one.act("hold", note=note)
    assert note in other.page("batches/campaign?queue=default")
    assert note in str(other.asks("GET", "batches/campaign")["hold"])
    other.asks("POST", "batches/campaign/resume")
    assert one.asks("GET", "batches/campaign")["hold"] is None
    other.asks("POST", "batches/campaign/hold")
    one.act("resume")
    assert other.asks("GET", "batches/campaign")["hold"] is None
    one.asks("PUT", f"suppression/{number}")
    assert number in other.page(f"suppression?number=%2B{number[1:]}")
    (call,) = one.asks("GET", "calls?batch=campaign&limit=1")["calls"]
    assert call["destination"] in other.page(f"calls/{call['id']}")
    assert "+658000" in one.page("calls?queue=default&batch=campaign")


@pytest.mark.crash
@pytest.mark.timeout(900)
@pytest.mark.anyio
@pytest.mark.parametrize("run", [0, *(pytest.param(run, marks=pytest.mark.slow) for run in range(1, RUNS))])
@pytest.mark.parametrize("backend", DURABLE)
async def test_nobody_is_called_twice_and_nothing_is_lost_through_an_upgrade(
    backend: str, run: int, before: Path, written_before: Callable[[str], str], tmp_path: Path
) -> None:
    url, kills = written_before(backend), random.Random(f"{backend} {run}")
    calls = CALLS if run else CALLS_OF_FIRST
    ports, opt_outs = [free_port(), free_port()], count(90000000)
    with ExitStack() as stack:
        proxy, crm = stack.enter_context(round_robin(ports)), stack.enter_context(running_crm())
        webhook = f"http://127.0.0.1:{proxy}/webhooks/8x8"
        scene = stack.enter_context(
            stage(
                tmp_path,
                store=url,
                speed=30,
                webhook=webhook,
                rate=f"{RATE}",
                wait_for_store="60s",
                api_secret=PROGRAMS,
                ui_secret=READERS,
                ui_operator_secret=OPERATORS,
                notify_url=crm.url,
                notify_secret=SECRET,
            )
        )
        scene.serving.end(signal.SIGTERM)  # it is not behind the proxy

        def started(*words: str, folder: Path, sign: str) -> Process:
            # Neither version reads the journal files of the other one, which would hold the queue.
            state = {"VOICEFLOW_STATE_DIR": str(tmp_path / f"state-{folder.name}")}
            process = stack.enter_context(running(*words, env={**scene.env, **state}, folder=folder))
            process.wait_for(sign)
            return process

        def served(port: int, *, folder: Path) -> Process:
            return started("serve", "--api", "--port", str(port), folder=folder, sign="voiceflow serve is ready")

        receivers = [served(port, folder=folder) for port, folder in zip(ports, (before, ROOT), strict=True)]
        half = calls // 2
        scene.campaign(half)
        old, _ = [started("worker", folder=folder, sign="voiceflow worker sends") for folder in (before, ROOT)]
        with ThreadPoolExecutor(1) as people:
            used = people.submit(used_together, ports, opt_outs)
            first = upgraded(scene, kills, kills.randint(1, MOST_KILLS))
            used.result()
        assert first.wait() == 1, first.told
        assert "1 worker and 1 receiver of the version before run" in first.told
        used_together(ports, opt_outs)
        rung = len(scene.ledger())
        scene.campaign(calls - half, name="more", first=half)
        wait_until(lambda: len(scene.ledger()) >= rung + 20, lambda: f"{scene.states()}", within=120, every=0.2)
        assert old.is_running, old.told
        # One that began now would refuse the store: it cannot read the journal files of the next version.
        was_cut = kills.random() < 0.5
        old.end(signal.SIGKILL if was_cut else signal.SIGTERM)
        receivers[0].end(signal.SIGTERM)
        receivers[0] = served(ports[0], folder=ROOT)
        while (last := upgraded(scene, kills, kills.randint(0, 2))).wait() != 0:
            assert "of the version before" in last.told, last.told
            await anyio.sleep(3)  # one that was killed seems to live for 30 s
        refused = voiceflow("worker", env=scene.env, folder=before)
        assert refused.wait() == 3
        assert "Install the newer version" in refused.told
        wait_until(lambda: _has_ended(scene), lambda: f"{scene.ledger()[-3:]}", within=300, every=3)
        doubtful = {call["batch_id"] for call in scene.calls("--state", "in_doubt")}
        ended = dict.fromkeys({"campaign", "more"} - doubtful, half)
        wait_until(lambda: crm.totals().items() >= ended.items(), lambda: f"{crm.totals()}", within=60, every=1)
        ledger = scene.ledger()
    async with open_store(url) as store:
        jobs = await find_jobs(store, Listing(queue="default", limit=None))
        (digests,) = (await store.records({DIGESTS: Page(limit=calls + 1)}, now=store.clock.now())).values()
    register = Register()
    requests = [CallRequest(flow=flow(job.destination), unique_key=job.id) for job in jobs]
    register.ask(
        Asked(kind=Kind.PLAIN, request=each, destination=job.destination)
        for each, job in zip(requests, jobs, strict=True)
    )
    register.confirm((job.id, job.id) for job in jobs)
    judgement = judge(jobs, ledger, register)
    sys.stdout.write(f"{backend} {run}: {judgement}\n")
    assert not judgement.violations, judgement
    doubts = len(judgement.open_doubts)
    told = [job.posts[-1].message or "" for job in jobs if job.id in judgement.open_doubts]
    assert was_cut or all("before an answer came" in each for each in told), (
        "only a worker that is killed, and a connection that was lost, leave doubts, for a person to resolve"
    )
    assert (len(jobs), judgement.rang + doubts, len(digests)) == (calls, calls, half)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.anyio
@pytest.mark.parametrize("backend", DURABLE)
async def test_processes_that_meet_the_next_version_send_nothing_more_and_store_what_was_sent(
    backend: str, fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = fresh_url(backend)
    with stage(tmp_path, store=url, rate="10", shutdown_grace="20s") as scene, scene.worker() as worker:
        worker.wait_for("voiceflow worker sends")
        scene.campaign(200)
        wait_until(lambda: len(scene.ledger()) >= 20, lambda: f"{scene.states()}", within=60, every=0.2)
        async with open_store(url) as store:
            await renumber(store, +1)
        assert worker.wait() == 3
        assert "it takes no more calls" in worker.told
        wait_until(lambda: scene.states().keys() <= {*ENDS, "queued"}, lambda: f"{scene.states()}", within=60, every=1)
        assert len(scene.ledger()) == 200 - scene.states()["queued"]
        with scene.worker() as again:
            assert again.wait() == 3
            assert "it takes no more calls" in again.told
        async with open_store(url) as store:
            await renumber(store, 0)
        with scene.worker("--drain") as last:
            last.wait(seconds=120)
        assert (scene.serving.is_running, sorted(scene.rang())) == (True, sorted(set(scene.rang())))
        assert len(scene.ledger()) == 200


LAID_OUT = {
    "sqlite": ["SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"],
    "postgres": [
        "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = to_regnamespace('voiceflow')",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'voiceflow'",
        "SELECT viewname, definition FROM pg_views WHERE schemaname = 'voiceflow'",
        "SELECT table_name || column_name, data_type FROM information_schema.columns WHERE table_schema = 'voiceflow'",
    ],
}
"""What asks for the names and the definitions of all that is in a store."""


async def laid_out(url: str, backend: str) -> dict[str, str]:
    """The definitions in a store, by name."""
    found: dict[str, str] = {}
    async with backend_for(url)(url) as store:
        for question in LAID_OUT[backend]:
            if isinstance(store, PostgresStore):
                schema = store.database.schema
                rows = await store.database.rows(question.replace("'voiceflow'", f"'{schema}'"))
                found |= {name: text.replace(schema, "voiceflow") for name, text in rows}
            elif isinstance(store, SqliteStore):
                found |= dict(await store.reader.read(partial(Connection.rows, statement=question)))
    return found


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("backend", LAID_OUT)
async def test_a_store_that_was_upgraded_is_laid_out_like_a_new_one(
    backend: str, written_before: Callable[[str], str], fresh_url: Callable[[str], str]
) -> None:
    url = written_before(backend)
    done = voiceflow("store", "upgrade", "--yes", env={"VOICEFLOW_STORE": url})
    assert done.wait() == 0, done.told
    upgraded, new = await laid_out(url, backend), await laid_out(fresh_url(backend), backend)
    assert upgraded
    assert {name: upgraded.get(name) for name in new} == new
    # The functions of the version before stay, because its receivers go on storing.
    assert not any(name.endswith(f"_{SCHEMA}") for name in upgraded.keys() - new.keys())
