"""The tables of facts beside the modules of this package, each with its date and its sources in its first lines."""

from __future__ import annotations

from importlib import resources


def rows_of(name: str) -> list[list[str]]:
    """Return the rows of a table such as `numbers/zones.tsv`, each a list of its cells; its comments are left out."""
    text = resources.files("voiceflow_worker.model").joinpath(*name.split("/")).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
