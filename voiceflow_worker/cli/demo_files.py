"""The example campaign of `demo`: inside an installed wheel, or under examples/ in a checkout."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

CAMPAIGN = "reminder-campaign.csv"
FLOW = "reminder-flow.json"


@contextmanager
def example_file(name: str) -> Generator[Path]:
    """The path of an example, for as long as the block lasts."""
    # There is one copy of it in the sources: the wheel is built with it at this place.
    packed = files("voiceflow_worker.cli").joinpath("demo_data", name)
    if packed.is_file():
        with as_file(packed) as path:
            yield path
        return
    yield Path(__file__).parents[2] / "examples" / name
