"""`voiceflow serve`: receive the webhooks of 8x8."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.garbage_collection import collect_less
from voiceflow_worker.cli.menus import IvrOption, load_menus
from voiceflow_worker.cli.notifying import NotifyOption
from voiceflow_worker.cli.opening import opened_queue
from voiceflow_worker.cli.options import (
    Flag,
    PortOption,
    StoreOption,
    WaitOption,
    WholeStoreOptions,
)
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.stopping import signals_to
from voiceflow_worker.cli.voice import voice_client
from voiceflow_worker.errors import StoreCorruptError, StoreError, StoreVersionError

if TYPE_CHECKING:
    from voiceflow_worker.core.ports import Store

WATCH_EVERY = 1.0


async def serve(
    *,
    host: str = "127.0.0.1",
    port: PortOption = 8080,
    register: Annotated[str | None, Parameter(metavar="URL")] = None,
    force: Annotated[bool, Flag] = False,
    ivr: IvrOption = None,
    notify: NotifyOption = None,
    store: StoreOption = None,
    wait_for_store: WaitOption = None,
) -> None:
    """Receive the webhooks of 8x8, which report the outcomes of calls, for all queues of a store.

    The receiver serves POST /webhooks/8x8, and GET /healthz, /readyz and /metrics. VOICEFLOW_WEBHOOK_SECRET,
    VOICEFLOW_WEBHOOK_ALLOW and VOICEFLOW_TRUSTED_PROXIES restrict the senders of events. With VOICEFLOW_UI_SECRET, it
    also serves pages for people under /ui. That secret allows people to read; VOICEFLOW_UI_OPERATOR_SECRET also allows
    them to hold, resume, cancel, redial, resolve and suppress.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        register: Register this URL at 8x8 for session summaries (VSS), and with --ivr for call actions (VCA). The URL
            must lead to this receiver, with https and a public name. Needs VOICEFLOW_API_KEY and VOICEFLOW_SUB_ACCOUNT.
        force: Register the URL even if 8x8 seems unable to reach it, because it is http or not public.

    Examples:
        voiceflow serve
        voiceflow serve --ivr restaurant:main
        VOICEFLOW_WEBHOOK_SECRET="Bearer 2f8c..." voiceflow serve --register https://calls.example.com/webhooks/8x8
    """
    import anyio
    from prometheus_client import CollectorRegistry

    from voiceflow_worker.asgi.descriptors import raise_limit
    from voiceflow_worker.asgi.server import fast_protocol, serving
    from voiceflow_worker.cli.webhook_registration import receiver_url, refuse_out_of_reach
    from voiceflow_worker.cli.webhook_registration import register as register_webhook
    from voiceflow_worker.gateway.account.resources import WebhookType
    from voiceflow_worker.notify.running import HookMetrics, notifier_of, notifying
    from voiceflow_worker.webhooks.app import PATH
    from voiceflow_worker.webhooks.from_settings import receiver_of
    from voiceflow_worker.webhooks.loading import load_what_is_read_later
    from voiceflow_worker.webhooks.menus.menu_events import MenuEvents
    from voiceflow_worker.webhooks.overload import load_shedding, preferred

    where = WholeStoreOptions(store=store, wait_for_store=wait_for_store)
    settings = where.settings(notify_url=notify)
    notifier = notifier_of(settings)
    output = Output()
    menus = load_menus(ivr)
    url = None if register is None else receiver_url(register, path=PATH)
    if url is not None:
        voice_client(settings)  # reports missing settings before anything is opened
        if not force:
            refuse_out_of_reach(url, base_url=settings.base_url)
    if settings.webhook_secret is None and not settings.webhook_allow:
        output.note(
            "anybody who reaches this port can send events: set VOICEFLOW_WEBHOOK_SECRET or VOICEFLOW_WEBHOOK_ALLOW"
        )
    raise_limit()
    load_what_is_read_later()
    stopped = anyio.Event()
    # Short, so that 8x8 soon gets an answer while the store is locked: its own time limit is not documented.
    async with opened_queue(settings, makes=True, patience=timedelta(seconds=2)) as calls:
        registry = CollectorRegistry()
        answering = MenuEvents(calls.store, *menus, policy=settings.policy(), registry=registry)
        app = receiver_of(settings, calls.store, on_event=answering, registry=registry)
        async with (
            signals_to(lambda _: stopped.set()),
            serving(
                app,
                host=host,
                port=port,
                protocol=fast_protocol(),
                is_preferred=preferred(settings.webhook_allow, settings.trusted_proxies),
                shedding=load_shedding(registry),
            ) as address,
            notifying(notifier, settings, calls.store, queue=None, tell=output.note) as hooks,
            anyio.create_task_group() as group,
        ):
            collect_less()
            if hooks is not None:
                registry.register(HookMetrics(hooks))
            output.note(f"voiceflow serve is ready on {address.url}{PATH}, for {calls.store.url}")
            if settings.ui_secret is not None:
                output.note(f"pages for people: {address.url}/ui; sign in with VOICEFLOW_UI_SECRET")
            if url is not None:
                kinds = [WebhookType.SESSION_SUMMARY, *([WebhookType.CALL_ACTION] if menus else [])]
                group.start_soon(partial(register_webhook, settings, url, kinds=kinds, tell=output.note))
            group.start_soon(_until_unusable, calls.store)
            await stopped.wait()
            group.cancel_scope.cancel()


async def _until_unusable(store: Store) -> None:
    """Read from the store each second, until it raises `StoreCorruptError` or `StoreVersionError`.

    Other errors are ignored: a store that cannot be reached may come back.
    """
    import anyio

    while True:
        await anyio.sleep(WATCH_EVERY)
        try:
            await store.records.get("queue", [""], now=store.clock.now())
        except StoreError as error:
            if isinstance(error, StoreCorruptError | StoreVersionError):
                raise
