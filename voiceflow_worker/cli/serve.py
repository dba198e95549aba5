"""`voiceflow serve`: receive the webhooks of 8x8."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlunsplit

import anyio
import structlog
from cyclopts import Parameter

from voiceflow_worker.cli.ivr import IvrOption
from voiceflow_worker.cli.opening import (
    collect_less,
    misspelt_settings,
    opened_queue,
    raise_limit,
    signals_to,
    voice_client,
)
from voiceflow_worker.cli.options import Flag, PortOption, StoreOption, WaitOption, WholeStoreOptions
from voiceflow_worker.core.logs import logged
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.model.text.web_address import is_this_machine, split_web_address

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

_log = structlog.get_logger("voiceflow.webhooks")


async def serve(
    *,
    host: str = "127.0.0.1",
    port: PortOption = 8080,
    register: Annotated[str | None, Parameter(metavar="URL")] = None,
    force: Annotated[bool, Flag] = False,
    api: Annotated[bool, Flag] = False,
    escalations: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    ivr: IvrOption = None,
    store: StoreOption = None,
    wait_for_store: WaitOption = None,
) -> None:
    """Receive the webhooks of 8x8, and serve the pages.

    For all queues of a store. VOICEFLOW_WEBHOOK_SECRET and VOICEFLOW_WEBHOOK_ALLOW restrict the senders of events. With
    VOICEFLOW_UI_SECRET, the web console is under /ui; with VOICEFLOW_UI_OPERATOR_SECRET, people may act there.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        register: Register this public https address of the receiver at 8x8 for session summaries (VSS), and for call
            actions (VCA) if there are menus. /webhooks/8x8 is added where it is missing.
        force: Register the address in place of one that no receiver of this store has registered.
        api: Serve the HTTP API for programs under /v1. Needs VOICEFLOW_API_SECRET or VOICEFLOW_API_SECRETS.
        escalations: A TOML file with the policies of escalations. It is read again when it changes. Needs --api.

    Examples:
        voiceflow serve
        voiceflow serve --ivr restaurant:main
        voiceflow serve --register https://calls.example.com
    """
    from voiceflow_worker.asgi.server import serving
    from voiceflow_worker.gateway.account import PATH, WebhookType
    from voiceflow_worker.ivr.loading import load_menus
    from voiceflow_worker.webhooks.receiver import Receiver, check_receiver
    from voiceflow_worker.webhooks.registration import Registration

    where = WholeStoreOptions(store=store, wait_for_store=wait_for_store)
    settings = where.settings(escalations=escalations)
    if escalations is not None and not api:
        raise InvalidInputError("--escalations needs --api, by which policies are named")
    check_receiver(settings, api=api)
    menus = load_menus(ivr, voice_profile=settings.voice_profile)
    url = None if register is None else receiver_url(register, path=PATH)
    if url is not None:
        voice_client(settings)  # reports missing settings before anything is opened
    _warn_of_open(settings, host=host)
    for each in misspelt_settings():
        _log.warning(each)
    raise_limit()
    stopped = anyio.Event()
    # Short, so that 8x8 soon gets an answer while the store is locked: its own time limit is not documented.
    async with opened_queue(settings, makes=True, lock_timeout=timedelta(seconds=2)) as calls:
        receiver = Receiver(settings, calls.store, menus=menus, api=api)
        served = serving(
            receiver.app,
            host=host,
            port=port,
            grace=settings.shutdown_grace,
        )
        async with (
            signals_to(lambda _: stopped.set()),
            receiver.running(),
            served as address,
        ):
            collect_less()
            _log.info(f"voiceflow serve is ready on {address.url}{PATH}, for {calls.store.url}")
            has_people = settings.ui_secret is not None or settings.auth_header is not None
            _log.info(f"web console: {f'{address.url}/ui' if has_people else 'none; set VOICEFLOW_UI_SECRET'}")
            _log.info(f"the HTTP API for programs: {f'{address.url}/v1' if api else 'closed; --api opens it'}")
            asks = menus or api or settings.ui_operator_secret or settings.auth_operators
            kinds = [WebhookType.SESSION_SUMMARY, *([WebhookType.CALL_ACTION] if asks else [])]
            async with Registration(settings, calls.store, url=url, kinds=kinds, force=force).kept():
                with logged():
                    await stopped.wait()
            receiver.stop()


def _warn_of_open(settings: Settings, *, host: str) -> None:
    """Warn that anybody may send events. Raises SettingsError on an address that other machines reach."""
    if settings.webhook_secret is not None or settings.webhook_allow:
        return
    who = "anybody who reaches this port can send events"
    if not is_this_machine(f"http://{f'[{host}]' if ':' in host else host}"):
        raise SettingsError(
            f"on --host {host}, {who}, and end calls with them. Set VOICEFLOW_WEBHOOK_SECRET to a long random text, "
            "which is registered with the webhook, or VOICEFLOW_WEBHOOK_ALLOW to the networks of 8x8"
        )
    _log.warning(f"{who}: set VOICEFLOW_WEBHOOK_SECRET or VOICEFLOW_WEBHOOK_ALLOW")


def receiver_url(given: str, *, path: str) -> str:
    """Return the given address, completed so that it ends in the receiver's path. Raises InvalidInputError."""
    parts = split_web_address(given.strip())
    if parts is None or parts.fragment or "@" in parts.netloc:
        raise InvalidInputError(
            f"--register: give the address by which 8x8 reaches this receiver, such as https://calls.example.com{path}"
        )
    prefix = parts.path.rstrip("/").removesuffix(path)
    return urlunsplit(parts._replace(path=prefix + path))
