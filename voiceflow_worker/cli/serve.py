"""`voiceflow serve`: the receiver of webhooks."""

from __future__ import annotations

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import opened_queue, settings_from
from voiceflow_worker.cli.options import QueueOption, StoreOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.stopping import signals_to

EXAMPLES = """Examples:
  voiceflow serve
  VOICEFLOW_WEBHOOK_SECRET="Bearer 2f8c..." voiceflow serve --host 0.0.0.0 --port 8080"""


async def serve(
    *, host: str = "127.0.0.1", port: int = 8080, store: StoreOption = None, queue: QueueOption = None
) -> ExitCode:
    """Receive the webhooks of 8x8, which tell how calls ended: POST /webhooks/8x8; also GET /healthz and /metrics.

    Serves all queues of the store. The secret and the networks that events must come with and from are settings:
    VOICEFLOW_WEBHOOK_SECRET, VOICEFLOW_WEBHOOK_ALLOW, VOICEFLOW_TRUSTED_PROXIES.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 is any free one.
    """
    import anyio

    from voiceflow_worker.asgi.server import serving
    from voiceflow_worker.core.heartbeat import Heartbeats
    from voiceflow_worker.core.settle import Settler
    from voiceflow_worker.webhooks.app import PATH, webhook_app

    settings = settings_from(store=store, queue=queue)
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    output = Output()
    if secret is None and not settings.webhook_allow:
        output.note(
            "anybody who reaches this port can send events: set VOICEFLOW_WEBHOOK_SECRET, VOICEFLOW_WEBHOOK_ALLOW"
        )
    told = anyio.Event()
    async with opened_queue(settings) as calls:
        app = webhook_app(
            Settler(calls.store, settings.policy()),
            secret=secret,
            allow=settings.webhook_allow,
            trusted_proxies=settings.trusted_proxies,
            heartbeats=Heartbeats(calls.store),
        )
        async with signals_to(lambda _: told.set()), serving(app, host=host, port=port) as address:
            output.note(f"voiceflow serve is ready on {address.url}{PATH}, for {calls.store.url}")
            await told.wait()
    return ExitCode.DONE
