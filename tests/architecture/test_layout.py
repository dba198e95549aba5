"""The rules of the house that a machine can check: what the rooms import, and who reads the environment."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("voiceflow_worker", "airflow_provider") for path in sorted((ROOT / package).rglob("*.py"))
]


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


READERS = {"voiceflow_worker/settings.py", "voiceflow_worker/core/audit.py", "voiceflow_worker/cli/opening.py"}
"""The audit log asks who became this user by sudo, and a service where systemd listens: neither is a setting."""


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        f"{place(path)}:{node.lineno}"
        for path in SOURCES
        if place(path) not in READERS and "env" in path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in name.name for name in node.names))
    ]
    assert not readers, "settings are read in voiceflow_worker/settings.py alone"


def test_no_test_imports_from_another_test() -> None:
    """What several share is a scene, in a module of its own: who reads it need not know a test, nor collect it."""
    other = re.compile(r"^from tests\.(?:\w+\.)*test_\w+ import", re.MULTILINE)
    paths = [path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    assert [place(path) for path in paths if other.search(path.read_text(encoding="utf-8"))] == []


@pytest.fixture(scope="module")
def imports() -> Mapping[str, set[str]]:
    """The modules that a module imports, also inside its functions and for its types, with the packages around them."""
    graph = grimp.build_graph("voiceflow_worker", "airflow_provider", cache_dir=None)
    return {own: set(loaded(own, graph.find_modules_directly_imported_by(own))) for own in graph.modules}


def loaded(own: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        steps = name.split(".")
        around = (".".join(steps[:end]) for end in range(1, len(steps)))
        yield from (each for each in around if not f"{own}.".startswith(f"{each}."))
        yield name


def test_no_modules_import_each_other_in_a_circle(imports: Mapping[str, set[str]]) -> None:
    """An import inside a function counts: it hides a circle, and does not end it."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_a_backend_knows_nothing_of_the_registry_that_loads_it(imports: Mapping[str, set[str]]) -> None:
    """The registry names its backends in texts, so that an import of it would be a circle that nobody sees."""
    rooms = tuple(f"voiceflow_worker.backends.{name}." for name in ("memory", "sqlite", "redis", "postgres"))
    knowing = [
        own
        for own, names in imports.items()
        if f"{own}.".startswith(rooms) and "voiceflow_worker.backends.registry" in names
    ]
    assert not knowing, "what a backend needs of the URL is in backends/store_url.py"
