"""The report of a soak: what was done to the processes, where it met them, and what became of the calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.crash.aftermath import Verdicts
from tests.crash.judge import Judgement, Violation
from tests.crash.phases import Phase

SHOWN = 3
"""Violations of one word that are printed with their whole story; --json has them all."""


@dataclass
class Strikes:
    """What was done so far. A kill that met several calls in different phases counts for each phase once."""

    workers: int = 0
    receivers: int = 0
    freezes: int = 0
    slow_commits: int = 0
    tasks: int = 0
    tasks_stopped: int = 0
    handed_in_again: int = 0
    setbacks: int = 0
    ended: int = 0
    """Workers that ended by themselves after a set-back, before anybody killed them."""
    idle: int = 0
    kills_in: Counter[Phase] = field(default_factory=Counter)
    calls_in: Counter[Phase] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return self.workers + self.receivers

    def met(self, phases: Mapping[Phase, int]) -> None:
        """A kill met a process in these phases."""
        self.kills_in.update(phases.keys())
        self.calls_in.update(phases)
        self.idle += not phases


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One soak."""

    seed: int
    store: str
    seconds: float
    strikes: Strikes
    verdicts: Verdicts
    kinds: Mapping[str, int] = field(default_factory=dict[str, int])
    found: tuple[Violation, ...] = ()
    """What was found while the processes were killed."""

    @property
    def before(self) -> Judgement:
        return self.verdicts.before

    @property
    def after(self) -> Judgement:
        return self.verdicts.after

    @property
    def violations(self) -> tuple[Violation, ...]:
        return self.found + self.before.violations + self.after.violations

    @property
    def is_good(self) -> bool:
        return not self.violations

    def as_json(self) -> dict[str, object]:
        """The report for scripts."""
        strikes, doubts = self.strikes, self.verdicts.doubts
        return {
            "seed": self.seed,
            "store": self.store,
            "seconds": round(self.seconds, 1),
            "calls": self.after.calls,
            "kills": strikes.kills,
            "kills_of_workers": strikes.workers,
            "kills_of_receivers": strikes.receivers,
            "freezes": strikes.freezes,
            "slow_commits": strikes.slow_commits,
            "tasks_killed": strikes.tasks,
            "tasks_stopped": strikes.tasks_stopped,
            "handed_in_again": strikes.handed_in_again,
            "setbacks": strikes.setbacks,
            "workers_ended_by_themselves": strikes.ended,
            "kinds": dict(sorted(self.kinds.items())),
            "kills_in_phase": {phase.label: strikes.kills_in[phase] for phase in Phase},
            "calls_in_phase": {phase.label: strikes.calls_in[phase] for phase in Phase},
            "kills_while_idle": strikes.idle,
            "doubts_opened": doubts.opened,
            "doubts_settled_by_answer": doubts.by_answer,
            "doubts_settled_by_summary": doubts.by_summary,
            "doubts_settled_by_log": doubts.by_log,
            "log": {"looked_at": self.verdicts.log.looked_at, "placed": self.verdicts.log.placed},
            "settled_by_summary_alone": self.before.unanswered,
            "doubts_open_and_not_rung": len(self.before.open_doubts),
            "doubts_open_after_a_person": len(self.after.open_doubts),
            "may_have_rung_twice_noted": self.after.alarms,
            "earlier_attempts_forgotten": self.after.forgotten,
            "rings_per_destination_max": max(self.before.rings_per_destination, self.after.rings_per_destination),
            "rang": self.after.rang,
            "jobs_lost": self.after.lost,
            "states": self.after.states,
            "violations_by_word": dict(Counter(each.word for each in self.violations)),
            "violations": [
                {"sentence": each.sentence, "call": each.call, "ledger": list(each.rows)} for each in self.violations
            ],
        }

    def _examples(self) -> list[Violation]:
        """A few of each word."""
        seen: Counter[str] = Counter()
        shown: list[Violation] = []
        for each in self.violations:
            seen[each.word] += 1
            if seen[each.word] <= SHOWN:
                shown.append(each)
        return shown

    def __str__(self) -> str:
        """The report for people."""
        told, strikes, doubts = self.as_json(), self.strikes, self.verdicts.doubts
        phases = "\n".join(
            f"    {phase.label:<18}{strikes.kills_in[phase]:>7} kills{strikes.calls_in[phase]:>8} calls"
            for phase in Phase
        )
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        tasks = f"{strikes.tasks:>7} killed, {strikes.tasks_stopped} stopped, which took their calls back"
        lines = [
            f"soak with seed {self.seed} on {self.store}: {self.seconds:.0f} s",
            f"  calls                 {told['calls']:>7} ({kinds})",
            f"  kills                 {strikes.kills:>7} ({strikes.workers} workers, {strikes.receivers} receivers)",
            f"  freezes past a lease  {strikes.freezes:>7}",
            f"  slow commits          {strikes.slow_commits:>7}",
            f"  tasks                 {tasks}",
            f"  calls handed in again {strikes.handed_in_again:>7}",
            f"  set-backs of the store{strikes.setbacks:>7} ({strikes.ended} workers ended by themselves)",
            "  where they fell (one kill may fall into several):",
            phases,
            f"    {'idle':<18}{strikes.idle:>7} kills",
            f"  doubts opened         {doubts.opened:>7}",
            f"    settled by answer   {doubts.by_answer:>7} (it came after the sweep had doubted)",
            f"    settled by summary  {doubts.by_summary:>7}",
            f"    settled by the log  {doubts.by_log:>7}",
            f"    open and not rung   {len(self.before.open_doubts):>7}, listed for a person",
            f"    open after that     {len(self.after.open_doubts):>7}, the person having said that nothing rang",
            f"  never answered        {self.before.unanswered:>7} calls; only a summary told of them",
            f"  summaries lost        {self.verdicts.log.placed:>7} calls, doubted or not, that the log of 8x8 told of",
            f"  rang                  {self.after.rang:>7}",
            f"  rings per allowed ring{told['rings_per_destination_max']:>7} at most",
            f"  jobs lost             {self.after.lost:>7}",
            f"  states                {self.after.states}",
            "all promises hold" if self.is_good else f"{len(self.violations)} VIOLATIONS: {told['violations_by_word']}",
            *map(str, self._examples()),
        ]
        return "\n".join(lines)
