"""Fixtures and settings of all tests: event loops, the guard that keeps tests on this machine, hypothesis profiles."""

# ruff: noqa: E402 - where bytecode lies is said before the imports

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import cache, partial
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from tempfile import mkdtemp

# Everything is compiled once, by the first process that needs it, whatever Python's setting for bytecode: tests start
# hundreds of processes. The bytecode lies beside what else pytest remembers. This is before the imports, because
# pytest rewrites every module of Hypothesis when it is imported.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode"))
sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]

import pytest
import structlog.dev
from _pytest.mark.expression import Expression
from _pytest.python import CallSpec
from hypothesis import HealthCheck, settings

from tests.contract.samples import ManualClock
from tests.support.manual_time import counted
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer, standalone
from tests.support.stores import EVERY, new_name
from voiceflow_worker import Store, open_store
from voiceflow_worker.backends.running import BlockingThread

# A slow or busy machine must not fail a property: time limits are pytest-timeout's business.
settings.register_profile("everyday", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
# Always the same examples: when CI turns red, the change did it.
settings.register_profile("ci", settings.get_profile("everyday"), derandomize=True, print_blob=True)
settings.register_profile("thorough", settings.get_profile("everyday"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))

# What the person who runs the tests has set for their own store and account is not for the tests to use.
for _name in [name for name in os.environ if name.startswith("VOICEFLOW_")]:
    del os.environ[_name]
os.environ["VOICEFLOW_WINDOW"] = "any"  # so that a campaign of a test about other things needs no hours

# Under `nohup`, hang-ups are ignored by every process that a test starts: it must find them as a terminal leaves them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journal files of the workers that tests start, in processes too, are not those of the person who runs them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _commits_are_counted() -> Iterator[None]:
    """No time passes on a manual clock while a store in SQLite writes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BlockingThread, "do", counted(BlockingThread.do))
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """A traceback in the log of a test is plain text: Rich takes a fifth of a second to paint one, and nobody looks."""
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


MEMORY = Path("/dev/shm")
ENOUGH = 2_000_000_000
"""Bytes; a whole run leaves 600 MB."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of tests that run side by side in memory, until the end: else half of their time is fsync.

    Tests that have the machine to themselves, such as those that kill processes, keep their files on the disk.
    """
    if not getattr(config.option, "numprocesses", None) or "PYTEST_DEBUG_TEMPROOT" in os.environ:
        return
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = root = mkdtemp(prefix="voiceflow-tests-", dir=MEMORY)
        Path(root).chmod(0o711)  # servers that do not run as root have folders of their own in it
        config.add_cleanup(partial(shutil.rmtree, root, ignore_errors=True))


FOLDERS = {"tests/console/browser": {"slow"}, "tests/crash": {"crash"}}
"""Folders all of whose tests have a marker."""
OF_FILE = re.compile(r"^pytestmark = (.*?)(?:\n\S|\Z)", re.MULTILINE | re.DOTALL)
OTHERS = (frozenset[str](), frozenset({"slow"}), frozenset({"alone"}), frozenset({"slow", "alone"}))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out folders and files that have none of the chosen tests: what drives a browser takes long to load."""
    marks = [each for folder, each in FOLDERS.items() if collection_path.match(folder)]
    if collection_path.match("test_*.py") and (of_file := OF_FILE.search(collection_path.read_text(encoding="utf-8"))):
        marks.append({*re.findall(r"mark\.(slow|alone|crash)\b", of_file[1])})
    chosen = [_is_chosen(config, *({*each, *others} for others in OTHERS)) for each in marks]
    return None if all(chosen) else True


def _is_chosen(config: pytest.Config, *marks: set[str]) -> bool:
    """Whether tests with one of these sets of markers are chosen."""
    expression = config.getoption("markexpr")
    return not expression or any(_expression(expression).evaluate(partial(_is_in, each)) for each in marks)


@cache
def _expression(text: str) -> Expression:
    return Expression.compile(text)


def _is_in(marks: set[str], name: str, **_: object) -> bool:
    return name in marks


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    """What the engine does is tested every day on SQLite alone, where a test runs on it, and what lies above the engine
    not on PostgreSQL: every store is held to each sentence of its contract every day, PostgreSQL with the first of its
    values. The whole set has all stores. Of a case that is not chosen, no test is made: that is a third of them."""
    result = yield
    path = str(metafunc.definition.path).removeprefix(f"{Path(__file__).parent}{os.sep}")
    marks, cases = {each.name for each in metafunc.definition.iter_markers()}, metafunc._calls
    is_on_sqlite = any(_store_of(case) == "sqlite" for case in cases)
    for case in cases:
        match path.partition(os.sep)[0]:
            case "backends":
                further = path == "backends/postgres/test_contract.py" and any(case.indices.values())
            case "core" if is_on_sqlite:
                further = _store_of(case) not in {None, "sqlite"}
            case _:
                further = "postgres" in case.id and "crash" not in marks
        if further:
            case.marks.append(pytest.mark.slow.mark)
    chosen = [each for each in cases if _is_chosen(metafunc.config, marks | {mark.name for mark in each.marks})]
    cases[:] = chosen or cases[:1]
    return result


def _store_of(case: CallSpec) -> str | None:
    """The one store that this case of a test is for."""
    named = [value for value in case.params.values() if isinstance(value, str) and value in EVERY]
    return named[0] if len(named) == 1 else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector's rounds, a third of the time: modules and tests are no garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Take the modules and the tests themselves, which stay until the end, out of the garbage collector's rounds.

    With Python's defaults, these rounds take a sixth of the processor's time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio; those that run on trio too are marked `either_loop` (tests/support/loops.py)."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The PostgreSQL that all tests of a process share, each with a schema of its own."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis that all tests of a process share, each with a prefix of its own."""
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Gives the URL of an empty store of a backend, each time another one."""
    schemas: list[str] = []

    def url(backend: str) -> str:
        name = new_name()
        match backend:
            case "memory":
                return "memory://"
            case "sqlite":
                return f"sqlite:///{tmp_path / name}.db"
            case "redis":
                redis: RedisServer = request.getfixturevalue("shared_redis")
                return f"{redis.url}?prefix={name}"
            case "postgres":
                postgres: PostgresServer = request.getfixturevalue("postgres_server")
                schemas.append(postgres.empty.pop() if postgres.empty else name)
                return postgres.url(schema=schemas[-1])
            case _:
                raise ValueError(backend)

    yield url
    if schemas:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        for name in schemas:
            server.clear(name)


@pytest.fixture
def store_url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    """The URL of an empty store: in a file, unless the test names other backends."""
    return fresh_url(getattr(request, "param", "sqlite"))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_store(store_url) as opened:
        yield opened


@pytest.fixture
async def memory() -> AsyncIterator[Store]:
    """For what does not depend on the kind of store."""
    async with open_store("memory://") as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    """A clock that does not move until a test moves it."""
    return ManualClock()


class OutsideConnectionError(RuntimeError):
    """Raised when a test tries to reach something that is not on this machine."""


_tried_to_leave: list[str] = []


def _is_on_this_machine(host: object) -> bool:
    """Say whether `host`, an address or a name, can only be this machine or, as RFC 6761 promises, nowhere."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name:
        return True
    if not isinstance(name, str):
        return False
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return name.rstrip(".").rpartition(".")[2].lower() in {"localhost", "invalid"}
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _refuse_to_leave(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse connections, datagrams and name lookups that would leave this machine.

    An audit hook sees every socket of this process, whichever library or event loop opened it; patching
    `socket.socket` would miss those that call the C type. It is called for everything that Python audits: leave early.
    """
    if not event.startswith("socket."):
        return
    match event, arguments:
        case (("socket.connect" | "socket.sendto" | "socket.sendmsg"), (opened, (host, _, *_))):
            if getattr(opened, "family", None) not in {socket.AF_INET, socket.AF_INET6}:
                return
        case "socket.getaddrinfo", (host, *_):
            pass
        case _:
            return
    if not _is_on_this_machine(host):
        _tried_to_leave.append(f"{event} {host!r}")
        raise OutsideConnectionError(f"tests stay on this machine, but one tried: {event} {host!r}")


sys.addaudithook(_refuse_to_leave)


@pytest.fixture(autouse=True)
def _nothing_leaves_this_machine() -> Iterator[None]:
    """Fail the test that tried, even where the code under test made an outcome of the error."""
    _tried_to_leave.clear()
    yield
    tried = list(_tried_to_leave)
    _tried_to_leave.clear()
    if tried:
        pytest.fail(f"tests stay on this machine, but this one tried: {', '.join(tried)}", pytrace=False)
