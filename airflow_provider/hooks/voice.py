"""The hook for an Airflow connection to 8x8 and to the store of calls."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook, Connection, conf

from voiceflow_worker import CallQueue, InvalidInputError, VoiceflowError, load_settings, open_store
from voiceflow_worker.core.logs import mask_logs
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.json_text import read_strict_json

if TYPE_CHECKING:
    from voiceflow_worker import Settings, Store, VoiceClient

DEFAULT_CONNECTION = "voiceflow_default"
ONE_HOST = "LocalExecutor"
"""The executor that runs all tasks on one host. Others may use several."""


class VoiceFlowHook(BaseHook):
    """A hook for connections of type `voiceflow`: the host is the base URL, and the password is the API key.

    The extra may have any setting of the library, in lower case, and `allow_local_store`. Missing settings come from
    the environment of the process. Before a coroutine uses the hook, call `settings`: reading the connection blocks.
    """

    conn_name_attr = "voiceflow_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "voiceflow"
    hook_name = "8x8 Voice"

    def __init__(self, voiceflow_conn_id: str = DEFAULT_CONNECTION) -> None:
        super().__init__()
        self.voiceflow_conn_id = voiceflow_conn_id
        self._settings: Settings | None = None
        self._allows_local_store = False

    def settings(self) -> Settings:
        """Return the connection as settings. Raises SettingsError with the name of the wrong field."""
        if self._settings is None:
            try:
                self._settings = self._read(self.get_connection(self.voiceflow_conn_id))
            except SettingsError as error:
                raise SettingsError(f"connection {self.voiceflow_conn_id}: {error}") from None
        return self._settings

    def _read(self, connection: Connection) -> Settings:
        try:
            extra = read_strict_json((connection.extra or "").strip() or "{}")
        except ValueError:
            extra = None
        if not isinstance(extra, dict):  # Airflow would read it as empty
            raise SettingsError('its extra is not a JSON object; write it as {"sub_account": "…", "store": "…"}')
        # `airflow connections add --conn-uri` makes numbers of digits, such as those of a sub-account.
        given = {name: str(value) if type(value) is int else value for name, value in connection.extra_dejson.items()}
        given = {name: value for name, value in given.items() if value not in (None, "")}
        self._allows_local_store = str(given.pop("allow_local_store", "")).lower() in {"true", "1", "yes"}
        if "api_key" in given:
            raise SettingsError("api_key is in its extra; put it into the password, which Airflow hides")
        given["api_key"] = (connection.password or "").strip() or None
        given["base_url"] = _base_url(connection) or given.get("base_url")
        settings = load_settings(options_place="the connection", **given)
        if settings.log_mask:
            mask_logs()
        for name in sorted({"store", "proxy"} & given.keys()):
            if _shown(settings, name) != getattr(settings, name):
                raise SettingsError(
                    f"the {name} in its extra may have a password, and Airflow shows the extra. Remove it, and set "
                    f"VOICEFLOW_{name.upper()}, or VOICEFLOW_{name.upper()}_FILE to a file that holds it, for every "
                    "component of Airflow"
                )
        return settings

    def require_lasting_store(self) -> None:
        """Raise InvalidInputError if the next try of a task might be unable to read the store."""
        store = _shown(self.settings(), "store")
        scheme = store.partition("://")[0].lower()
        # An executor may have the name of a team before it, an alias, and the path of its module.
        others = {*re.findall(r"\w+(?=[;,\s]|$)", conf.get("core", "executor", fallback="") or "")} - {ONE_HOST}
        is_own_file = scheme in {"sqlite", "file"} and others and not self._allows_local_store
        if scheme == "memory" or is_own_file:
            raise InvalidInputError(
                f"the next try of this task may not find the store {store}, and would call again: it is lost with its "
                f"process, or a file that a try on another host ({', '.join(sorted(others)) or ONE_HOST}) cannot read. "
                "Use a postgresql:// or redis:// store, or sqlite:////absolute/path.db with LocalExecutor. If all "
                "workers, the triggerer and `voiceflow serve` share the file, set allow_local_store=true in the extra"
            )

    def get_conn(self) -> VoiceClient:
        """Return the client of 8x8, to be opened with `async with`. Raises SettingsError."""
        from voiceflow_worker import VoiceClient

        return VoiceClient.from_settings(self.settings())

    async def get_queue(self) -> CallQueue:
        """Return the queue of the connection, in its store, which is opened once for an event loop."""
        settings = self.settings()
        return CallQueue(await shared_store(settings), settings.queue, policy=settings.policy())

    def test_connection(self) -> tuple[bool, str]:
        """Check that 8x8 accepts the API key and that the store can be opened. Nobody is called."""
        try:
            self.settings()  # reads the connection, which must not block the event loop
            return True, asyncio.run(self._looked())
        except VoiceflowError as error:
            return False, str(error)

    async def _looked(self) -> str:
        queue = await self.get_queue()
        async with self.get_conn() as voice:
            await voice.webhooks()
            total = (await queue.status()).total
            return f"8x8 accepts the API key; the store {queue.store.url} has {total} calls in queue {queue.name}"


Opened = tuple["asyncio.Future[Store]", "asyncio.Task[None]"]
_stores: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Opened]] = WeakKeyDictionary()
"""The open stores of each event loop by URL, with the tasks that close them at the end of the loop."""


async def shared_store(settings: Settings) -> Store:
    """Return the store of these settings. It is opened once for an event loop. Raises StoreError."""
    loop = asyncio.get_running_loop()
    stores = _stores.setdefault(loop, {})
    if settings.store not in stores:
        opened: asyncio.Future[Store] = loop.create_future()

        async def keep() -> None:
            try:
                async with open_store(settings.store, settings=settings) as store:
                    opened.set_result(store)
                    await loop.create_future()
            except Exception as error:  # noqa: BLE001 - raised again for each user that waits for the store
                stores.pop(settings.store)
                if not opened.done():
                    opened.set_exception(error)

        stores[settings.store] = opened, loop.create_task(keep())
    return await asyncio.shield(stores[settings.store][0])


def _shown(settings: Settings, name: str) -> str:
    return next(each.value for each in settings.shown() if each.variable == f"VOICEFLOW_{name.upper()}")


def _base_url(connection: Connection) -> str | None:
    """Return the host as a URL with the schema (https by default) and the port of the connection."""
    host = (connection.host or "").strip()
    if host and "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    return f"{host}:{connection.port}" if host and connection.port else host or None
