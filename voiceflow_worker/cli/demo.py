"""`voiceflow demo` and `voiceflow sandbox`: the whole product, and a stand-in for 8x8, on this machine."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import as_file, files
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from anyio import CancelScope
from cyclopts import Parameter

from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.cli.opening import log_to_stderr, settings_from, signals_to
from voiceflow_worker.cli.options import (
    HostOption,
    JsonOption,
    PortOption,
    QueueOption,
    SpeedOption,
    StoreOption,
    WebAddressOption,
)
from voiceflow_worker.cli.output import ExitCode, Output, tell_findings, typed
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.printable import without_secrets
from voiceflow_worker.model.text.wording import count_of

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
    from voiceflow_worker.core.drain import DrainResult
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.reporting.report import Report


SOURCE, VOICE = "+6531234567", "en-US-JennyNeural"
KEPT_IN = "sqlite:///demo.db"
RATE = 10
VALID_FOR = timedelta(hours=2)  # as in the README, so that both call the same rows
SPEED = 20
"""The speed of the calls: 20 times that of real calls, so that ringing for 45 s takes about 2 s."""


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
DemoQueue = Annotated[QueueOption, Parameter(help="The queue's name. [default]")]


async def demo(*, json: JsonOption = False, store: DemoStore = None, queue: DemoQueue = None) -> ExitCode:
    """Send an example campaign, without an account.

    Nobody is called, and your settings are ignored. Some rows are bad on purpose. It takes about ten seconds, and keeps
    nothing without --store.

    Examples:
        voiceflow demo
        voiceflow demo --store sqlite:///demo.db && voiceflow report --store sqlite:///demo.db --batch reminder-campaign
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
            shown = await _show(output, CallQueue(opened, queue or "default"))
    if shown is None:
        return ExitCode.INTERRUPTED
    output.document(_as_json(shown))
    if not json:
        _tell(output, shown, kept_in=store)
    return ExitCode.UNDONE if shown.drained.doubts or shown.drained.stopped_by_hold else ExitCode.DONE


async def _show(output: Output, calls: CallQueue) -> _Result:
    from voiceflow_worker.asgi.server import serving
    from voiceflow_worker.cli.sending import showing_progress
    from voiceflow_worker.core.worker import Worker
    from voiceflow_worker.gateway.account import PATH
    from voiceflow_worker.gateway.client import VoiceClient
    from voiceflow_worker.reporting.report import build_report
    from voiceflow_worker.sandbox import Sandbox
    from voiceflow_worker.secret_text import SecretStr
    from voiceflow_worker.settings import Settings
    from voiceflow_worker.webhooks import Receiver

    store, secret = calls.store, f"Bearer {secrets.token_hex(16)}"
    # Settings of their own: the person's may name a system to be notified.
    receiver = Receiver(Settings(webhook_secret=SecretStr(secret)), store)
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=secret, speed=SPEED)
        async with sandbox.running() as url, VoiceClient("demo-key", "demo", base_url=url) as voice:
            output.note(f"A sandbox on {url} stands in for 8x8; webhooks arrive on {address.url}{PATH}.")
            report = await _enqueue(output, calls)
            output.note(
                f"Sending {report.enqueued} calls, {RATE} a second; they run {SPEED} times as fast as real ones."
            )
            async with showing_progress(calls, output, label="calling"):
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


def _as_json(shown: _Result) -> dict[str, object]:
    return {
        **shown.enqueued.as_json(),
        "rang": shown.rang.total(),
        "doubts": shown.drained.doubts,
        "calls": [call_as_json(job) for job in shown.calls],
    }


def _tell(output: Output, shown: _Result, *, kept_in: str | None) -> None:
    output.answer(*str(shown.report).splitlines())
    tell_findings(
        output,
        typed(found for found in shown.enqueued.findings if found.is_error),
        title="Bad rows, which were not called",
    )
    output.say(f"{phones_that_rang(shown.rang)}. Next steps:")
    kept = kept_in if kept_in is not None and not kept_in.startswith("memory:") else KEPT_IN
    program, shown_store = _program(), shlex.quote(kept)
    if without_secrets(kept, options=True) != kept:
        shown_store = '"$VOICEFLOW_STORE"'
        output.say("  First put the URL of the store, whose secrets are not shown here, into VOICEFLOW_STORE:")
        output.say("  read -rs VOICEFLOW_STORE && export VOICEFLOW_STORE")
    steps = (
        (f"{program} demo --store {shown_store}", "run the demo again, and keep its calls"),
        (f"{program} calls list --store {shown_store}", "list the calls; `calls show ID` shows one call"),
        (f"{program} check FILE", "check a campaign of your own, without sending it"),
        (f"{program} sandbox", "run the stand-in for 8x8, to try `worker` and `serve`"),
        (f"{program} --help", "list all commands"),
    )
    for command, meaning in steps[kept_in == kept :]:
        output.say(f"  {command:<{len(steps[1][0])}}  {meaning}")


def phones_that_rang(rang: Counter[str]) -> str:
    """A clause with the number of phones that rang, and with those that rang more than once."""
    twice = [number for number, times in rang.items() if times > 1]
    how_often = f"these more than once: {', '.join(twice)}" if twice else "none of them twice"
    return f"{count_of(len(rang), 'phone')} rang, {how_often}"


def _program() -> str:
    """The command that starts this program: `voiceflow`, or the path that it was started by if it is not on PATH."""
    started = Path(sys.argv[0])
    if started.name != "voiceflow" or which("voiceflow") is not None:
        return "voiceflow"
    return str(started.relative_to(Path.cwd()) if started.is_relative_to(Path.cwd()) else started)


CAMPAIGN = "reminder-campaign.csv"
FLOW = "reminder-flow.json"


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
    host: HostOption = "127.0.0.1",
    port: PortOption = 8088,
    webhook: WebAddressOption = None,
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
        VOICEFLOW_BASE_URL=http://127.0.0.1:8088 VOICEFLOW_API_KEY=any VOICEFLOW_SUB_ACCOUNT=demo voiceflow worker
    """
    import anyio

    from voiceflow_worker.gateway.network import Network
    from voiceflow_worker.sandbox import Sandbox
    from voiceflow_worker.settings import text_of

    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise InvalidInputError("--api-key has a character that HTTP headers cannot hold; give ASCII characters")
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
