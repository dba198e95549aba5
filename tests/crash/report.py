"""The report of a soak: what was done to the processes, and what became of the calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.crash.aftermath import Verdicts
from tests.crash.judge import Judgement, Violation

SHOWN = 3
"""Violations of one word that are printed with their whole story."""


@dataclass
class Strikes:
    """What was done so far."""

    workers: int = 0
    receivers: int = 0
    freezes: int = 0
    slow_commits: int = 0
    tasks: int = 0
    tasks_stopped: int = 0
    handed_in_again: int = 0
    crashes: int = 0
    rollbacks: int = 0
    ended: int = 0
    """Workers that ended by themselves after a rollback, before anybody killed them."""

    @property
    def kills(self) -> int:
        return self.workers + self.receivers


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
        strikes, before, after = self.strikes, self.before, self.after
        figures = {
            "calls": after.calls,
            "kills of workers": strikes.workers,
            "kills of receivers": strikes.receivers,
            "freezes past a lease": strikes.freezes,
            "slow commits": strikes.slow_commits,
            "tasks killed": strikes.tasks,
            "tasks stopped, which took their calls back": strikes.tasks_stopped,
            "calls handed in again": strikes.handed_in_again,
            "crashes of a server that recovers": strikes.crashes,
            "rollbacks of the store": strikes.rollbacks,
            "workers that ended by themselves": strikes.ended,
            "doubts": self.verdicts.doubts,
            "doubts not rung, listed for a person": len(before.open_doubts),
            "doubts open after the person": len(after.open_doubts),
            "calls that only a summary told of": before.unanswered,
            "calls that only the log told of": self.verdicts.log.placed,
            "notes that somebody may have been called twice": after.alarms,
            "earlier attempts forgotten in a rollback": after.forgotten,
            "rang": after.rang,
            "rings for each ring that was allowed": max(before.rings_per_destination, after.rings_per_destination),
            "jobs lost": after.lost,
        }
        words = dict(Counter(each.word for each in self.violations))
        lines = [
            f"soak with seed {self.seed} on {self.store}: {self.seconds:.0f} s",
            *(f"  {name:<50}{count:>7}" for name, count in figures.items()),
            f"  kinds: {dict(sorted(self.kinds.items()))}",
            f"  states: {after.states}",
            "all promises hold" if self.is_good else f"{len(self.violations)} VIOLATIONS: {words}",
            *map(str, self._examples()),
        ]
        return "\n".join(lines)
