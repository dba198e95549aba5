"""The map of the source names files that exist, and the layers of the import contracts."""

from __future__ import annotations

import re

from tests.architecture.layers import layer_contracts
from tests.docs.pages import DOCS, ROOT, blocks, prose, section

PAGE = DOCS / "architecture.md"
_PLACE = re.compile(r"`((?:[\w-]+/)*[\w-]+(?:/|\.(?:py|md|toml|svg)))`|`([\w-]+(?:/[\w-]+)+)`")


def named_places(text: str) -> set[str]:
    """The files and folders between back quotes."""
    return {match[1] or match[2] for match in _PLACE.finditer(text)}


def test_every_file_that_the_page_names_exists() -> None:
    named = named_places(prose(PAGE))
    assert len(named) > 60
    missing = {name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "voiceflow_worker"))}
    assert not missing


def test_the_layers_are_those_of_the_import_contracts() -> None:
    named = {tuple(block.text.splitlines()) for block in blocks(PAGE, language="text")}
    assert named == {tuple(layers) for layers in layer_contracts().values()}, "the page is stale: ./dev picture"


def test_the_tables_have_every_room() -> None:
    rooms = {
        "The rooms": ROOT / "voiceflow_worker",
        "The engine": ROOT / "voiceflow_worker" / "core",
        "The model": ROOT / "voiceflow_worker" / "model",
    }
    for heading, folder in rooms.items():
        text = section(PAGE.read_text(encoding="utf-8"), heading)
        in_table = {name.rpartition("/")[2] for name in re.findall(r"^\| `([\w/]+)` \|", text, re.MULTILINE)}
        missing = {path.parent.name for path in folder.glob("*/__init__.py")} - in_table
        assert not missing, f"{heading}: the table lacks {', '.join(sorted(missing))}"
