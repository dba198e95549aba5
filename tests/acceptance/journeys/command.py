"""The journeys by the command `voiceflow`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.acceptance.journeys.interface import WORDS, Again, Call, Driver, Person
from tests.cli.running import Ended


class Command(Driver):
    """Commands, each of which must succeed the first time that it is given."""

    def start(self, batch: str, people: Sequence[Person], *, campaign: str = "", **fields: Any) -> Again:
        rows = self.on.folder / f"{batch}.csv"
        with rows.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*people[0]])
            writer.writeheader()
            writer.writerows(people)
        given = {**WORDS, **fields, "batch": batch}
        if campaign:
            definition = self.on.folder / f"{batch}.toml"
            definition.write_text(campaign, encoding="utf-8")
            given = {**given, "campaign": definition}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not True]
        flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is True]
        return self._order("enqueue", rows, *options, *flags)

    def calls(self, batch: str) -> Sequence[Call]:
        return self._done("calls", "list", "--batch", batch, "--limit", 0, "--json").lines

    def hold(self, batch: str) -> None:
        self._done("hold", "--batch", batch)

    def resume(self, batch: str) -> None:
        self._done("resume", "--batch", batch, "--yes")

    def cancel_call(self, call: Call) -> None:
        self._done("calls", "cancel", call["id"], "--yes")

    def cancel_batch(self, batch: str) -> None:
        self._done("calls", "cancel", "--batch", batch, "--yes")

    def redial_busy(self, batch: str) -> Again:
        return self._order("calls", "redial", "--batch", batch, "--outcome", "busy", "--yes")

    def suppress(self, number: str) -> None:
        self._done("suppress", "add", number)

    def resolve(self, call: Call, *, placed: bool) -> None:
        verdict = "--placed" if placed else "--not-placed"
        self.voiceflow("calls", "resolve", call["id"], verdict, "--note", "8x8 says so", "--yes")

    def reconcile(self) -> None:
        self.voiceflow("reconcile")

    def _order(self, *words: object) -> Again:
        self._done(*words)
        return partial(self.voiceflow, *words)

    def _done(self, *words: object) -> Ended:
        ended = self.voiceflow(*words)
        assert ended.code == 0, f"{words}: {ended.err}"
        return ended
