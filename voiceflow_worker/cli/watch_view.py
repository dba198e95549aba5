"""The picture of `voiceflow watch`, and the data that it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from voiceflow_worker.core.overview.batches import BatchProgress, read_batch, read_queue
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.overview.story import closed_in_words, gate_as_json
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import count_of, rfc3339

if TYPE_CHECKING:
    from rich.console import RenderableType

    from voiceflow_worker.model.records.call_outcome import CallOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A queue with its batches, or one batch, at one time. `holds` are the closed gates that stop the calls."""

    progress: BatchProgress
    totals: Totals
    holds: tuple[Gate, ...]
    workers: int
    has_receiver: bool

    def as_json(self) -> dict[str, object]:
        """The data as a JSON document: the progress as `voiceflow batches` prints it, and more."""
        return {
            "at": rfc3339(self.progress.at),
            **self.progress.as_json(),
            "outcomes": self.totals.outcomes,
            "answered": self.totals.answered,
            "workers": self.workers,
            "receiver": self.has_receiver,
            "holds": [gate_as_json(gate) for gate in self.holds],
        }


async def read_watched(store: Store, queue: str, *, batch_id: str | None = None) -> Watched:
    """Read a queue, or one batch of it. Raises StoreError."""
    heartbeats = Heartbeats(store)
    progress = await (read_queue(store, queue) if batch_id is None else read_batch(store, queue, batch_id))
    gates = [gate for gate in await gates_of(store, queue) if gate.is_closed(at=progress.at)]
    return Watched(
        progress=progress,
        totals=await store.totals(queue, batch=batch_id),
        holds=tuple(gate for gate in gates if batch_id is None or gate.name == batch_id or gate == progress.hold),
        workers=len(await heartbeats.workers(queue)),
        has_receiver=await heartbeats.has_receiver(),
    )


WIDE = 70
"""The number of columns from which a terminal has room for long labels."""
KEYS = "h hold   r resume   q quit"
_COLOURS = {
    "completed": "green", "accepted": "green", "failed": "red", "in_doubt": "yellow", "expired": "magenta",
    "unreached": "blue", "submitted": "cyan", "sending": "cyan", "leased": "cyan",
    "COMPLETED": "green", "FAILED": "red", "ERROR": "red", "BUSY": "blue", "NO_ANSWER": "blue",
}  # fmt: skip
"""The colours of bars, by state or outcome. Each bar also has its name, so the colours are not needed."""


def picture(
    watched: Watched, *, last: Sequence[CallOutcome], width: int, height: int, bottom: str = KEYS
) -> RenderableType:
    """The picture for a terminal of this size. `last` are outcomes, the newest first; `bottom` is the last line."""
    states = {state.value: count for state, count in watched.progress.states.items() if count}
    alerts = list(_alerts(watched))
    groups = {"state": states, "outcome": watched.totals.outcomes}
    bars = [_bars(name, counts, width=width) for name, counts in groups.items() if counts]
    used = 9 + len(alerts) + len(states) + len(watched.totals.outcomes)
    return Group(
        Text(_title(watched), style="bold"),
        Text(figures(watched)),
        *(Text(alert, style="bold red") for alert in alerts),
        *(each for table in bars for each in (Text(), table)),
        *_last(last[: max(height - used - 3, 0)]),
        Text(bottom, style="reverse"),
    )


def figures(watched: Watched) -> str:
    """The figures on one line: `30 of 90 calls done (33%), 2.5 calls/s by 1 worker, 0:00:24 left`."""
    progress = watched.progress
    share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
    left = ""
    if progress.ends_at is not None:
        left = f", {timedelta(seconds=round((progress.ends_at - progress.at).total_seconds()))} left"
    workers = count_of(watched.workers, "worker")
    rate = f"{progress.rate_now:g} calls/s by {workers}"
    return f"{progress.done} of {count_of(progress.total, 'call')} done{share}, {rate}{left}"


def line(watched: Watched) -> str:
    """The view as one line of text, for a log or a pipe."""
    outcomes = ", ".join(f"{count} {name}" for name, count in watched.totals.outcomes.items())
    parts = (f"{watched.progress.at:%H:%M:%S}Z {figures(watched)}", outcomes, *_alerts(watched))
    return printable_line("; ".join(part for part in parts if part))


def _title(watched: Watched) -> str:
    progress = watched.progress
    name = f"queue {progress.queue}" + ("" if progress.batch_id is None else f", batch {progress.batch_id}")
    return printable_line(f"{name}   {progress.at.astimezone():%H:%M:%S}")


def _alerts(watched: Watched) -> Iterable[str]:
    """The lines about holds and doubts, which need a person's attention."""
    for gate in watched.holds:
        yield printable_line(f"HELD: {closed_in_words(gate)}")
    if watched.progress.doubts:
        yield f"IN DOUBT: {count_of(watched.progress.doubts, 'call')}"


def _bars(name: str, counts: Mapping[str, int], *, width: int) -> Table:
    label = 22 if width >= WIDE else 12
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(name, width=label, no_wrap=True)
    table.add_column("calls", justify="right", width=8)
    table.add_column("")
    table.add_column("", justify="right", width=4)
    total = sum(counts.values())
    for each, count in counts.items():
        colour = _COLOURS.get(each, "white")
        bar = ProgressBar(
            total=total, completed=count, width=width - label - 18, complete_style=colour, finished_style=colour
        )
        table.add_row(Text(printable_line(each.replace("_", " "))), str(count), bar, f"{count / total:.0%}")
    return table


def _last(last: Sequence[CallOutcome]) -> Iterable[RenderableType]:
    if not last:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in ("last", "number", "outcome", "seconds"):
        table.add_column(column, no_wrap=True)
    for each in last:
        outcome = each.outcome
        seconds = "" if outcome is None or outcome.seconds is None else f"{outcome.seconds:.0f}"
        how = each.state.value if outcome is None else outcome.text_of(each.job.destination)
        cells = (f"{each.at.astimezone():%H:%M:%S}", each.job.destination, how, seconds)
        table.add_row(*(Text(printable_line(cell)) for cell in cells))
    yield Text()
    yield table
