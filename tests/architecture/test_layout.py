"""The rules of the house that a machine can check: what the rooms import, and who reads the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("voiceflow_worker", "airflow_provider") for path in sorted((ROOT / package).rglob("*.py"))
]


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        f"{place(path)}:{node.lineno}"
        for path in SOURCES
        if path != ROOT / "voiceflow_worker" / "settings.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in name.name for name in node.names))
    ]
    assert not readers, "voiceflow_worker/settings.py reads the environment, and no other file"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = frozenset(map(name_of, SOURCES))


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a module imports, also inside its functions and for its types, with the packages around them."""
    own = name_of(path)
    for name in _imported(path):
        steps = name.split(".")
        around = (".".join(steps[:end]) for end in range(1, len(steps)))
        yield from (each for each in around if not f"{own}.".startswith(f"{each}."))
        yield name


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                yield inner if inner in NAMES else node.module
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """An import inside a function counts: it hides a circle, and does not end it."""
    graph = {name_of(path): {each for each in imports_of(path) if each in NAMES} - {name_of(path)} for path in SOURCES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_a_backend_knows_nothing_of_the_registry_that_loads_it() -> None:
    """The registry names its backends in texts, so that an import of it would be a circle that nobody sees."""
    rooms = ("memory", "sqlite", "redis")
    knowing = [
        place(path)
        for path in SOURCES
        if path.relative_to(ROOT).parts[1:2] == ("backends",) and path.relative_to(ROOT).parts[2] in rooms
        if any(each.startswith("voiceflow_worker.backends.registry") for each in imports_of(path))
    ]
    assert not knowing, "what a backend needs of the URL is in backends/store_url.py"
