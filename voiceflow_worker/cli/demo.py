"""`voiceflow demo` and `voiceflow sandbox`: the whole product, and a stand-in for 8x8, on this machine."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import anyio
from anyio import CancelScope
from cyclopts import Parameter

from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.cli.opening import log_to_stderr, settings_from, signals_to
from voiceflow_worker.cli.options import JsonOption, PortOption, SpeedOption, StoreOption
from voiceflow_worker.cli.output import ExitCode, Output, tell_findings, typed
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.wording import count_of

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
    from voiceflow_worker.core.drain import DrainResult
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.reporting.report import Report


SOURCE, VOICE = "+6531234567", "en-US-JennyNeural"
RATE = 10
VALID_FOR = timedelta(hours=2)  # as in the README, so that both call the same rows
SPEED = 20
"""The speed of the calls: 20 times that of real calls, so that ringing for 45 s takes about 2 s."""
CAMPAIGN = "reminder-campaign.csv"
FLOW = "reminder-flow.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The result of a demo. `rang` counts the times that each phone rang."""

    enqueued: EnqueueReport
    drained: DrainResult
    report: Report
    calls: Sequence[Job]
    rang: Counter[str]


DemoStore = Annotated[
    StoreOption,
    Parameter(help="Keep the calls in this store, such as sqlite:///demo.db. [a file that is deleted at the end]"),
]


async def demo(*, json: JsonOption = False, store: DemoStore = None) -> ExitCode:
    """Send an example campaign, without an account.

    Nobody is called, and your settings are ignored. Some rows are bad on purpose. It takes about ten seconds, and keeps
    nothing without --store.

    Examples:
        voiceflow demo
        voiceflow demo --store sqlite:///demo.db
        voiceflow calls list --store sqlite:///demo.db
    """
    from voiceflow_worker.queue import CallQueue

    log_to_stderr(form="console", level="warning")
    output = Output(as_json=json)
    shown = None
    # A scope repeats its cancellation until its block has ended. asyncio's own Ctrl-C cancels only once, and a commit
    # that must be finished could swallow that cancellation.
    with CancelScope() as scope, TemporaryDirectory(prefix="voiceflow-demo-") as folder:
        url = store or f"sqlite:///{Path(folder) / 'demo.db'}"
        async with signals_to(lambda _: scope.cancel()), open_store(url) as opened:
            shown = await _run(output, CallQueue(opened))
    if shown is None:
        return ExitCode.INTERRUPTED
    output.document(
        {
            **shown.enqueued.as_json(),
            "rang": shown.rang.total(),
            "doubts": shown.drained.doubts,
            "calls": [call_as_json(job) for job in shown.calls],
        }
    )
    if not json:
        _show(output, shown)
    return ExitCode.UNDONE if shown.drained.doubts or shown.drained.stopped_by_hold else ExitCode.DONE


async def _run(output: Output, calls: CallQueue) -> _Result:
    """Enqueue the example's rows, and send them through a sandbox, with a receiver of their own."""
    from pydantic import SecretStr

    from voiceflow_worker.asgi.server import serving
    from voiceflow_worker.cli.worker import showing_progress
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.account import PATH
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.reporting.report import build_report
    from voiceflow_worker.sandbox import Sandbox
    from voiceflow_worker.settings import Settings
    from voiceflow_worker.webhooks import Receiver

    store, secret = calls.store, f"Bearer {secrets.token_hex(16)}"
    # Settings of their own: the person's may name a system to be notified.
    receiver = Receiver(Settings(webhook_secret=SecretStr(secret)), store)
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=secret, speed=SPEED)
        async with sandbox.running() as url, VoiceClient("demo-key", "demo", base_url=url) as voice:
            output.note(f"A sandbox on {url} takes the place of 8x8; webhooks arrive on {address.url}{PATH}.")
            report = await _enqueue(output, calls)
            output.note(f"Sending {report.enqueued} calls, {RATE} a second, {SPEED} times as fast as real ones.")
            async with showing_progress(calls, label="calling"):
                drained = await Worker(store, voice, queue=calls.name, rate=RATE).drain()
    return _Result(
        enqueued=report,
        drained=drained,
        report=await build_report(store, calls.name, report.batch_id),
        calls=await calls.find(batch_id=report.batch_id, limit=None),
        rang=Counter(entry.destination for entry in sandbox.ledger if entry.rang and entry.destination),
    )


async def _enqueue(output: Output, calls: CallQueue) -> EnqueueReport:
    from voiceflow_worker.campaigns.calls.options import CampaignOptions
    from voiceflow_worker.campaigns.calls.template import FlowTemplate
    from voiceflow_worker.campaigns.enqueue import enqueue_file

    with example_file(CAMPAIGN) as campaign, example_file(FLOW) as flow:
        options = CampaignOptions(
            template=FlowTemplate.load(flow), source=SOURCE, voice_profile=VOICE, window="any", valid_for=VALID_FOR
        )
        now = calls.store.clock.now()
        report = await enqueue_file(calls, campaign, options, now=now, skip_bad=True)
    output.note(f"{CAMPAIGN}: {report.in_words()}")
    return report


def _show(output: Output, shown: _Result) -> None:
    output.answer(*str(shown.report).splitlines())
    bad = typed(found for found in shown.enqueued.findings if found.is_error)
    tell_findings(output, bad, title="Bad rows, which were not called")
    twice = [number for number, times in shown.rang.items() if times > 1]
    how_often = f"these more than once: {', '.join(twice)}" if twice else "none of them twice"
    output.say(f"{count_of(len(shown.rang), 'phone')} rang, {how_often}. Next: `voiceflow check FILE` with a list of")
    output.say("your own, `voiceflow sandbox` to try `worker` and `serve`, `voiceflow --help` for all commands.")


@contextmanager
def example_file(name: str) -> Generator[Path]:
    """Yield the path of an example file, which is valid while the block lasts."""
    # The wheel has the examples in this package; the sources have them only in the folder `examples`.
    packed = files("voiceflow_worker.cli").joinpath("demo_data", name)
    if packed.is_file():
        with as_file(packed) as path:
            yield path
        return
    yield Path(__file__).parents[2] / "examples" / name


async def sandbox(
    *,
    host: str = "127.0.0.1",
    port: PortOption = 8088,
    webhook: Annotated[str | None, Parameter(metavar="URL")] = None,
    seed: str = "0",
    api_key: Annotated[str | None, Parameter(show_default=False)] = None,
    speed: SpeedOption = 1.0,
) -> None:
    """Run a stand-in for 8x8, which calls nobody.

    For development only. GET /_sandbox/calls lists the calls; faults and outcomes can be set under /_sandbox.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        webhook: The URL for events, until webhooks are registered. Events carry VOICEFLOW_WEBHOOK_SECRET if it is set.
        seed: The seed of the random outcomes of calls.
        api_key: Accept only this API key. [any key]
        speed: The speed of calls, as a multiple of real time: with 60, a minute takes a second.

    Examples:
        voiceflow sandbox --webhook http://127.0.0.1:8080/webhooks/8x8 --speed 20
        export VOICEFLOW_BASE_URL=http://127.0.0.1:8088
    """
    from voiceflow_worker.gateway.network import Network
    from voiceflow_worker.sandbox import Sandbox
    from voiceflow_worker.settings import text_of

    settings = settings_from()
    stand_in = Sandbox(
        seed=seed,
        api_key=api_key,
        webhook=webhook,
        webhook_secret=text_of(settings.webhook_secret),
        speed=speed,
        ssl_context=Network.of(settings).ssl_context,
    )
    stopped = anyio.Event()
    async with signals_to(lambda _: stopped.set()), stand_in.running(host=host, port=port) as url:
        Output().note(f"voiceflow sandbox is ready on {url}; its calls are listed at {url}/_sandbox/calls")
        await stopped.wait()
