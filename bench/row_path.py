"""The way of one row of a CSV into a call: which functions it runs through, and in which forms it is held.

    python -m bench.row_path [--list]

Functions are the distinct ones of all packages that a row enters, at least every second row; forms are the classes of
which each row makes an instance. What `phonenumbers` does inside is not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

from bench.rows import SOURCE, TEXT, VOICE, campaign
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows

ROWS = 500
T = TypeVar("T")


def row_path(folder: Path) -> tuple[list[tuple[CodeType, int]], list[tuple[type, int]]]:
    """The functions of a row and its forms, each with how often all rows have it, in the order of that."""
    path = campaign(folder, ROWS)
    options = CampaignOptions(template=FlowTemplate.speaking(TEXT), source=SOURCE, voice_profile=VOICE)
    rows = iter(CampaignRows(path, options, now=datetime.now(UTC)))
    functions: Counter[CodeType] = Counter()
    forms: Counter[type] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or _is_within(frame, "phonenumbers"):
            return
        functions[frame.f_code] += 1
        first = next(iter(frame.f_locals), "")
        if frame.f_code.co_name in {"__init__", "__new__"} or first == "_cls":  # that of a named tuple has no name
            made = frame.f_locals[first]
            forms[made if isinstance(made, type) else type(made)] += 1

    next(rows)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for _ in rows:
            pass
    finally:
        sys.setprofile(before)
    return _usual(functions), _usual(forms)


def _is_within(frame: FrameType | None, package: str) -> bool:
    """Whether a function belongs to a package, or is called by it."""
    while frame is not None and f"/{package}/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


def _usual(found: Counter[T]) -> list[tuple[T, int]]:
    """What at least every second row has."""
    return [(each, count) for each, count in found.most_common() if count >= ROWS / 2]


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list them, with how often a row has each")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, made = row_path(Path(folder))
    if wanted.list:
        for code, count in ours:
            print(f"{count / ROWS:5.1f}  {code.co_qualname}  {code.co_filename.rpartition('/')[2]}")  # noqa: T201
        for form, count in made:
            print(f"{count / ROWS:5.1f}  {form.__module__}.{form.__qualname__}")  # noqa: T201
    print(f"{len(ours)} functions, {len(made)} forms")  # noqa: T201


if __name__ == "__main__":
    main()
