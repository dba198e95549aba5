"""The hook for an Airflow connection to 8x8 and to the store of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from anyio import to_thread

from voiceflow_worker import CallQueue, load_settings, open_store
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.json_text import read_strict_json

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from voiceflow_worker import Settings, Store, VoiceClient

DEFAULT_CONNECTION = "voiceflow_default"

_OWN_EXTRAS = frozenset({"ui_url", "allow_local_store"})
"""Fields of the connection's extra that the provider reads itself. All other fields are settings of the library."""


class VoiceFlowHook(BaseHook):
    """A hook for connections of type `voiceflow`: the host is the base URL, and the password is the API key.

    The extra may have any setting of the library, in lower case (`sub_account`, `store`, `queue`, `source`,
    `voice_profile`, `rate`, …), and also `ui_url` and `allow_local_store`. Missing settings come from the
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

    def ui_url(self) -> str | None:
        """Return the address of the pages of `voiceflow serve`, or None if the connection has none."""
        self.settings()
        return str(self._own.get("ui_url") or "").strip().rstrip("/") or None

    def allows_local_store(self) -> bool:
        """Return whether the connection declares that all workers share the store file."""
        self.settings()
        return str(self._own.get("allow_local_store", "")).strip().lower() in {"true", "1", "yes"}

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
        text = (connection.extra or "").strip()
        try:
            found = read_strict_json(text or "{}")
        except ValueError as error:
            found, why = None, f" ({error})"
        else:
            why = ""
        if not isinstance(found, dict):
            raise SettingsError(
                f"connection {self.voiceflow_conn_id}: its extra is not a JSON object{why}; write it as "
                '{"sub_account": "…", "store": "…"}'
            )
        return dict(connection.extra_dejson)

    def get_conn(self) -> VoiceClient:
        """Return the client. Airflow expects this name."""
        return self.get_client()

    def get_client(self) -> VoiceClient:
        """Return a client of 8x8, to be opened with `async with`. Raises SettingsError."""
        return self._client(self.settings())

    def get_store(self) -> AbstractAsyncContextManager[Store]:
        """Return the store, to be opened with `async with`. Raises SettingsError and StoreError."""
        return open_store(self.settings().store)

    @asynccontextmanager
    async def opened_queue(self) -> AsyncGenerator[CallQueue]:
        """Open the store, and yield the queue of the connection."""
        settings = await self.asettings()
        async with open_store(settings.store) as store:
            yield CallQueue(store, settings.queue, policy=settings.policy())

    def _client(self, settings: Settings) -> VoiceClient:
        from voiceflow_worker import VoiceClient

        missing = settings.missing_for_calls()
        if missing:
            remedies = " Put the API key into the password of this connection, and the sub_account into its extra."
            raise SettingsError(f"connection {self.voiceflow_conn_id}: {'; '.join(missing)}.{remedies}")
        return VoiceClient.from_settings(settings)

    def test_connection(self) -> tuple[bool, str]:
        """Check that 8x8 accepts the API key and that the store can be opened. Nobody is called."""
        from voiceflow_worker import VoiceflowError
        from voiceflow_worker.errors import RequestFailedError, VoiceUnavailableError

        try:
            self.settings()  # reads the connection, which must not block the event loop
            return True, asyncio.run(self._look())
        except VoiceUnavailableError as error:
            return False, f"8x8 cannot be reached: {error}"
        except RequestFailedError as error:
            if error.status in {401, 403}:
                return False, f"8x8 does not accept the API key in the connection's password: {error}"
            if error.status == 404:
                return False, f"8x8 does not know the sub-account in the connection's extra: {error}"
            return False, str(error)
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
