"""`voiceflow serve`: receive the webhooks of 8x8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlunsplit

import anyio
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
from voiceflow_worker.cli.options import (
    Flag,
    HostOption,
    NotifyOption,
    PortOption,
    StoreOption,
    WaitOption,
    WholeStoreOptions,
)
from voiceflow_worker.cli.output import Output
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import (
    InvalidInputError,
    SettingsError,
    StoreCorruptError,
    StoreVersionError,
    VoiceflowError,
    VoiceUnavailableError,
)
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.web_address import is_this_machine, split_web_address, why_not_from_outside

if TYPE_CHECKING:
    from voiceflow_worker.gateway.account import Webhook, WebhookType
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.settings import Settings


WATCH_EVERY = 1.0
LINGER = timedelta(seconds=2)
"""The time for which a receiver that has to stop goes on, so that clients end the connections that they keep."""


async def serve(
    *,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    register: Annotated[str | None, Parameter(metavar="URL")] = None,
    force: Annotated[bool, Flag] = False,
    api: Annotated[bool, Flag] = False,
    escalations: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    ivr: IvrOption = None,
    notify: NotifyOption = None,
    open_to_all: Annotated[bool, Flag] = False,
    store: StoreOption = None,
    wait_for_store: WaitOption = None,
) -> None:
    """Receive the webhooks of 8x8, and serve the pages.

    For all queues of a store. VOICEFLOW_WEBHOOK_SECRET and VOICEFLOW_WEBHOOK_ALLOW restrict the senders of events. With
    VOICEFLOW_UI_SECRET, the web console is under /ui; with VOICEFLOW_UI_OPERATOR_SECRET, people may act there.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        register: Register this public https address of the receiver at 8x8 for session summaries (VSS), and with --ivr
            or --api for call actions (VCA). /webhooks/8x8 is added where it is missing.
        force: Register the URL as it is, even if it is http or not public.
        api: Serve the HTTP API for programs under /v1. Needs VOICEFLOW_API_SECRET; VOICEFLOW_API_ALLOW restricts the
            networks.
        open_to_all: Take events from anybody who reaches the port, on any address, without VOICEFLOW_WEBHOOK_SECRET or
            VOICEFLOW_WEBHOOK_ALLOW.
        escalations: A TOML file with the policies of escalations. It is read again when it changes. Needs --api.

    Examples:
        voiceflow serve
        voiceflow serve --ivr restaurant:main
        VOICEFLOW_WEBHOOK_SECRET="Bearer 2f8c..." voiceflow serve --register https://calls.example.com/webhooks/8x8
    """
    import anyio

    from voiceflow_worker.asgi.server import serving
    from voiceflow_worker.core.logs import logged
    from voiceflow_worker.gateway.account import PATH, WebhookType
    from voiceflow_worker.ivr.loading import load_menus
    from voiceflow_worker.webhooks.receiver import Receiver, check_receiver

    where = WholeStoreOptions(store=store, wait_for_store=wait_for_store)
    settings = where.settings(notify_url=notify, escalations=escalations)
    output = Output(masks=settings.log_mask)
    if escalations is not None and not api:
        raise InvalidInputError("--escalations needs --api, by which policies are named")
    check_receiver(settings, api=api)
    menus = load_menus(ivr, voice_profile=settings.voice_profile)
    url = None if register is None else url_to_register(register, settings, path=PATH, force=force, tell=output.note)
    _warn_of_open(settings, host=host, told_to=open_to_all, tell=output.note)
    for each in misspelt_settings():
        output.note(each)
    raise_limit()
    stopped = anyio.Event()
    # Short, so that 8x8 soon gets an answer while the store is locked: its own time limit is not documented.
    async with opened_queue(settings, makes=True, lock_timeout=timedelta(seconds=2)) as calls:
        receiver = Receiver(settings, calls.store, menus=menus, api=api, tell=output.note)
        async with (
            signals_to(lambda _: stopped.set()),
            receiver.running(),
            serving(
                receiver.app,
                host=host,
                port=port,
                grace=settings.shutdown_grace,
                linger=LINGER,
            ) as address,
            anyio.create_task_group() as group,
        ):
            collect_less()
            output.note(f"voiceflow serve is ready on {address.url}{PATH}, for {calls.store.url}")
            output.note(f"web console: {_sign_in(settings, url=address.url)}")
            output.note(f"the HTTP API for programs: {f'{address.url}/v1' if api else 'closed; --api opens it'}")
            if url is not None:
                asks = (
                    menus or api or settings.ui_operator_secret or settings.auth_operators
                )  # programs and people may begin menus of data
                kinds = [WebhookType.SESSION_SUMMARY, *([WebhookType.CALL_ACTION] if asks else [])]
                group.start_soon(partial(register_webhook, settings, url, kinds=kinds, tell=output.note))
            group.start_soon(_until_unusable, calls.store)
            with logged():
                await stopped.wait()
            receiver.stop()
            group.cancel_scope.cancel()


def _warn_of_open(settings: Settings, *, host: str, told_to: bool, tell: Tell) -> None:
    """Say that anybody may send events. Raises SettingsError on an address that other machines reach."""
    if settings.webhook_secret is not None or settings.webhook_allow:
        return
    who = "anybody who reaches this port can send events"
    if not told_to and not is_this_machine(f"http://{f'[{host}]' if ':' in host else host}"):
        raise SettingsError(
            f"on --host {host}, {who}, and end calls with them: set VOICEFLOW_WEBHOOK_SECRET to a long random text, "
            "which is registered with the webhook, or VOICEFLOW_WEBHOOK_ALLOW to the networks of 8x8; "
            "--open-to-all serves without them"
        )
    tell(f"{who}: set VOICEFLOW_WEBHOOK_SECRET or VOICEFLOW_WEBHOOK_ALLOW")


def _sign_in(settings: Settings, *, url: str) -> str:
    """Where the pages are, and which secrets open them."""
    if settings.auth_header is not None and settings.ui_secret is None:
        acting = ", ".join(settings.auth_operators) or "none of them"
        named = f"{url}/ui; a proxy of VOICEFLOW_TRUSTED_PROXIES names people in {settings.auth_header}"
        return f"{named}; {acting} may act"
    if settings.ui_secret is None:
        return "none; set VOICEFLOW_UI_SECRET to a secret of yours, with which people sign in"
    acting = "with that of VOICEFLOW_UI_OPERATOR_SECRET, people may act too"
    if settings.ui_operator_secret is None:
        acting = "set VOICEFLOW_UI_OPERATOR_SECRET to another secret for those who may act"
    return f"{url}/ui; people sign in with the value of VOICEFLOW_UI_SECRET, to read; {acting}"


async def _until_unusable(store: Store) -> None:
    """Read from the store each second, until it raises `StoreCorruptError` or `StoreVersionError`.

    Other errors are ignored: a store that cannot be reached may come back, and nothing else may end the receiver.
    """
    import anyio

    while True:
        await anyio.sleep(WATCH_EVERY)
        try:
            await store.records({"queue": [""]}, now=store.clock.now())
        except (StoreCorruptError, StoreVersionError):
            raise
        except Exception as error:  # noqa: BLE001 - those who need the store tell it
            import structlog  # not at the start: `--help` loads this module

            structlog.get_logger("voiceflow.webhooks").debug("the store was not read", error=str(error))


FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(seconds=30)
"""The pauses between tries while 8x8 cannot be reached. The receiver already takes events during this time."""

Tell = Callable[[str], None]


def url_to_register(given: str, settings: Settings, *, path: str, force: bool, tell: Tell) -> str:
    """The address to register, completed and checked. Raises InvalidInputError, SettingsError."""
    url = receiver_url(given, path=path, as_it_is=force)
    if url != given:
        tell(f"--register {given} is completed to {url}; --force registers any path as it is")
    voice_client(settings)  # reports missing settings before anything is opened
    if not force:
        refuse_out_of_reach(url, base_url=settings.base_url)
    return url


def receiver_url(given: str, *, path: str, as_it_is: bool = False) -> str:
    """The given address, completed so that it ends in the receiver's path. Raises InvalidInputError.

    With `as_it_is`, only an address without any path is completed: a proxy may lead another path to the receiver.
    """
    parts = split_web_address(given.strip())
    if parts is None or parts.fragment:
        raise InvalidInputError(
            f"--register {given}: give the address by which 8x8 reaches this receiver, such as "
            f"https://calls.example.com{path}"
        )
    if "@" in parts.netloc:
        raise InvalidInputError(
            "--register: remove the user name and password from the address; 8x8 sends VOICEFLOW_WEBHOOK_SECRET with "
            "each event"
        )
    prefix = parts.path.rstrip("/")
    if as_it_is and prefix:
        return given.strip()
    # Of a prefix such as /calls, /calls/webhooks or /calls/webhooks/8x8, /calls stays.
    first = path.rpartition("/")[0]
    for end in (path, first):
        if prefix.lower().endswith(end):
            prefix = prefix[: -len(end)]
            break
    return urlunsplit(parts._replace(path=prefix.rstrip("/") + path))


def refuse_out_of_reach(url: str, *, base_url: str | None) -> None:
    """Raise InvalidInputError for an address that 8x8 cannot reach. A sandbox on this machine can reach any address."""
    why = None if base_url is not None and is_this_machine(base_url) else why_not_from_outside(url)
    if why is not None:
        raise InvalidInputError(
            f"--register {url}: 8x8 cannot send events there: {why}. Give an https address with a public name, such as "
            "that of a proxy or a tunnel to this receiver; --force registers the address as it is. Nothing was changed "
            "at 8x8."
        )


async def register_webhook(settings: Settings, url: str, *, kinds: Sequence[WebhookType], tell: Tell) -> None:
    """Register `url` at 8x8 for events of these types, with the webhook secret. Report replaced addresses.

    Tries again until 8x8 can be reached. Raises SettingsError, RequestFailedError.
    """
    async with voice_client(settings) as voice:
        for failures in count(1):
            try:
                await _register_once(voice, settings, url, kinds=kinds, tell=tell)
            except Exception as error:
                if isinstance(error, VoiceflowError) and not isinstance(error, VoiceUnavailableError):
                    raise
                pause = backoff(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE, seed=url).total_seconds()
                tell(f"{url} is not registered yet: {error}; trying again in {pause:.1f} s")
                await anyio.sleep(pause)
            else:
                return


async def _register_once(
    voice: VoiceClient, settings: Settings, url: str, *, kinds: Sequence[WebhookType], tell: Tell
) -> None:
    """Register `url` for events of these types, with the first value of the webhook secret. Raises VoiceError."""
    secret = next(iter(settings.secret_values("webhook_secret")), None)
    before = {webhook.type: webhook for webhook in await voice.webhooks()}
    for kind in kinds:
        await voice.register_webhook(kind, url, auth_header=secret)
        header = "with VOICEFLOW_WEBHOOK_SECRET" if secret else "without an Authorization header"
        tell(f"8x8 now sends {kind.value} events to {url}, {header}; {_replaced(before.get(kind.value), url)}")


def _replaced(webhook: Webhook | None, url: str) -> str:
    if webhook is None:
        return "no address was registered before"
    off = "" if webhook.enabled else ", but it was off"
    return f"{'the same address' if webhook.url == url else webhook.url} was registered before{off}"
