"""The hook for an Airflow connection to 8x8 and to the store of calls."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, conf
from anyio import to_thread

from voiceflow_worker import CallQueue, InvalidInputError, VoiceflowError, load_settings, open_store
from voiceflow_worker.core.logs import mask_logs
from voiceflow_worker.errors import RequestFailedError, SettingsError, VoiceUnavailableError
from voiceflow_worker.model.text.json_text import read_strict_json

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from voiceflow_worker import Settings, Store, VoiceClient

log = logging.getLogger(__name__)

DEFAULT_CONNECTION = "voiceflow_default"
ONE_HOST = "LocalExecutor"
"""The executor that runs all tasks on one host. Others (Celery, Kubernetes, Edge, batch) may use several hosts."""

_OWN_EXTRAS = frozenset({"allow_local_store"})
"""Fields of the connection's extra that the provider reads itself. All other fields are settings of the library."""


class VoiceFlowHook(BaseHook):
    """A hook for connections of type `voiceflow`: the host is the base URL, and the password is the API key.

    The extra may have any setting of the library, in lower case (`sub_account`, `store`, `queue`, `source`,
    `voice_profile`, `rate`, …), and also `allow_local_store`. Missing settings come from the
    environment of the process (`VOICEFLOW_STORE`, …), then from defaults.

    The connection is read once, at first use. In a coroutine, call `await hook.asettings()` first: it reads the
    connection without blocking the event loop.
    """

    conn_name_attr = "voiceflow_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "voiceflow"
    hook_name = "8x8 Voice"

    def __init__(self, voiceflow_conn_id: str = DEFAULT_CONNECTION) -> None:
        super().__init__()
        self.voiceflow_conn_id = voiceflow_conn_id
        self._settings: Settings | None = None
        self._own: dict[str, Any] = {}

    def settings(self) -> Settings:
        """Return the connection as settings. Raises SettingsError with the name of the wrong field."""
        if self._settings is None:
            connection = self.get_connection(self.voiceflow_conn_id)
            self._settings = self._read(connection)
        return self._settings

    async def asettings(self) -> Settings:
        """Return the connection as settings, without blocking the event loop. Raises SettingsError."""
        # On another thread: `airflow dags test` has no connections of the database for an event loop.
        return await to_thread.run_sync(self.settings)

    def store_url(self) -> str:
        """Return the URL of the store without its password."""
        return _shown(self.settings(), "store")

    def require_lasting_store(self) -> None:
        """Raise InvalidInputError if the next try of a task might be unable to read the store."""
        store = self.store_url()
        allowed = str(self._own.get("allow_local_store", "")).strip().lower() in {"true", "1", "yes"}
        require_lasting(store, executor=conf.get("core", "executor", fallback="") or "", allowed=allowed)

    def _read(self, connection: Connection) -> Settings:
        given = {name: value for name, value in self._extra(connection).items() if value not in (None, "")}
        self._own = {name: given.pop(name) for name in _OWN_EXTRAS & given.keys()}
        if "api_key" in given:
            raise SettingsError(
                f"connection {self.voiceflow_conn_id}: api_key is in its extra; put it into the password, which "
                "Airflow hides"
            )
        api_key = (connection.password or "").strip() or None
        base_url = _base_url(connection) or given.pop("base_url", None)
        fields = {**given, "api_key": api_key, "base_url": base_url}
        try:
            settings = load_settings(options_place="the connection", **fields)
        except SettingsError as error:
            raise SettingsError(f"connection {self.voiceflow_conn_id}: {error}") from None
        if settings.log_mask:
            mask_logs()
        for name in sorted({"store", "proxy"} & given.keys()):
            if _shown(settings, name) != getattr(settings, name):
                variable = f"VOICEFLOW_{name.upper()}"
                raise SettingsError(
                    f"connection {self.voiceflow_conn_id}: the {name} in its extra has a password, or a part that may "
                    f"be one. Airflow shows it to everybody who may read connections. Remove the {name} from the "
                    f"extra, and set {variable}, or {variable}_FILE to a file that holds it, for every component of "
                    "Airflow"
                )
        return settings

    def _extra(self, connection: Connection) -> dict[str, Any]:
        """Return the extra. Raises SettingsError for a text that is not a JSON object: its store would be lost."""
        try:
            found = read_strict_json((connection.extra or "").strip() or "{}")
            if isinstance(found, dict):
                # `airflow connections add --conn-uri` makes numbers of digits, such as those of a sub-account.
                read = connection.extra_dejson.items()
                return {name: str(value) if type(value) is int else value for name, value in read}
            why = ""
        except ValueError as error:
            why = f" ({error})"
        raise SettingsError(
            f"connection {self.voiceflow_conn_id}: its extra is not a JSON object{why}; write it as "
            '{"sub_account": "…", "store": "…"}'
        )

    def get_conn(self) -> VoiceClient:
        """Return the client. Airflow expects this name."""
        return self.get_client()

    def get_client(self) -> VoiceClient:
        """Return a client of 8x8, to be opened with `async with`. Raises SettingsError."""
        from voiceflow_worker import VoiceClient

        settings = self.settings()
        missing = settings.missing_for_calls()
        if missing:
            remedies = " Put the API key into the password of this connection, and the sub_account into its extra."
            raise SettingsError(f"connection {self.voiceflow_conn_id}: {'; '.join(missing)}.{remedies}")
        return VoiceClient.from_settings(settings)

    def get_store(self) -> AbstractAsyncContextManager[Store]:
        """Return the store, to be opened with `async with`. Raises SettingsError and StoreError."""
        settings = self.settings()
        return open_store(settings.store, settings=settings)

    @asynccontextmanager
    async def opened_queue(self) -> AsyncGenerator[CallQueue]:
        """Yield the queue of the connection, in its store, which is opened once on each event loop."""
        settings = await self.asettings()
        async with shared_store(settings.store, settings) as store:
            yield CallQueue(store, settings.queue, policy=settings.policy())

    def test_connection(self) -> tuple[bool, str]:
        """Check that 8x8 accepts the API key and that the store can be opened. Nobody is called."""
        try:
            self.settings()  # reads the connection, which must not block the event loop
            return True, asyncio.run(self._look())
        except VoiceUnavailableError as error:
            return False, f"8x8 cannot be reached: {error}"
        except RequestFailedError as error:
            refused = "8x8 does not accept the API key in the connection's password"
            unknown = "8x8 does not know the sub-account in the connection's extra"
            why = {401: refused, 403: refused, 404: unknown}.get(error.status or 0)
            return False, str(error) if why is None else f"{why}: {error}"
        except VoiceflowError as error:
            return False, str(error)

    async def _look(self) -> str:
        async with self.get_client() as voice:
            webhooks = await voice.webhooks()
        async with self.opened_queue() as queue:
            total = (await queue.status()).total
            told = any(each.type == "VSS" and each.enabled for each in webhooks)
            remedy = "`voiceflow serve --register URL` registers one"
            webhook = "" if told else f"; no webhook receives session summaries ({remedy})"
            return (
                f"8x8 accepts the API key; the store {queue.store.url} has {total} calls in queue {queue.name}{webhook}"
            )


@dataclass(slots=True)
class _Opened:
    """An open store. A task of its own opens and closes it, because the user that opens it first may leave first."""

    opened: asyncio.Future[Store]
    last_left: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    keeper: asyncio.Task[None] | None = None


_open: dict[tuple[int, str], _Opened] = {}
"""The open stores by event loop and URL. Each is used only on its event loop. A triggerer has many users of one."""


@asynccontextmanager
async def shared_store(url: str, settings: Settings | None = None) -> AsyncGenerator[Store]:
    """Yield the store at `url`, opened once for all its users on this event loop. Raises the errors of `open_store`."""
    loop = asyncio.get_running_loop()
    place = (id(loop), url)
    entry = _open.get(place)
    if entry is None:
        entry = _open[place] = _Opened(loop.create_future())
        entry.keeper = asyncio.create_task(_keep(url, settings, entry))
    entry.users += 1
    try:
        yield await asyncio.shield(entry.opened)
    finally:
        entry.users -= 1
        if entry.users == 0:
            del _open[place]  # the next user opens the store again
            entry.last_left.set()
            if entry.keeper is not None:
                await asyncio.shield(entry.keeper)


async def _keep(url: str, settings: Settings | None, entry: _Opened) -> None:
    try:
        async with open_store(url, settings=settings) as store:
            entry.opened.set_result(store)
            await entry.last_left.wait()
    except Exception as error:  # noqa: BLE001 - raised again for each user that waits for the store
        if not entry.opened.done():
            entry.opened.set_exception(error)


def require_lasting(store: str, *, executor: str, allowed: bool) -> None:
    """Raise InvalidInputError if the next try, under this `[core] executor`, might be unable to read the store.

    `allowed` is True if the user declared that all workers share the file, on storage that supports locks. A relative
    path is logged.
    """
    scheme, _, path = store.partition("://")
    if scheme.lower() == "memory":
        raise InvalidInputError(
            "the store is memory://, which loses every call when the process of the task ends, so a retry would call "
            "again. Set the store of the connection to a postgresql:// or redis:// URL, or to "
            "sqlite:////absolute/path.db if all tasks run on one host"
        )
    if scheme.lower() not in {"sqlite", "file"}:
        return
    if not path.startswith("//"):
        log.warning(
            "the path of the store %s is relative to the working directory, so tasks, the triggerer and `voiceflow "
            "serve` may use different files. Use an absolute path, such as sqlite:////srv/voiceflow/calls.db",
            store,
        )
    # An executor may have the name of a team before it, an alias, and the path of its module.
    names = [re.split(r"[=.:]", each.strip())[-1] for each in re.split("[;,]", executor)]
    movers = [name for name in names if name and name != ONE_HOST]
    if movers and not allowed:
        raise InvalidInputError(
            f"the store is a file ({store}), but {' and '.join(movers)} may run the next try on another host, which "
            "cannot read the file and would call again. Use a postgresql:// or redis:// store. If every worker, the "
            "triggerer and `voiceflow serve` share this file, set allow_local_store=true in the extra of the "
            "connection instead"
        )


def _shown(settings: Settings, name: str) -> str:
    return next(each.value for each in settings.shown() if each.variable == f"VOICEFLOW_{name.upper()}")


def _base_url(connection: Connection) -> str | None:
    """Return the host as a URL with the schema (https by default) and the port of the connection."""
    host = (connection.host or "").strip()
    if not host:
        return None
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    return f"{host}:{connection.port}" if connection.port else host
