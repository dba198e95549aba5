"""The rules of the house that a machine can check: where things stand, what they are called, what they import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from tests.architecture.imports import circles, module_graph, modules, room_graph

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("voiceflow_worker", "airflow_provider") for path in sorted((ROOT / package).rglob("*.py"))
]
WRITTEN = [path for path in (ROOT / "examples", ROOT / "tests") for path in sorted(path.rglob("*.py"))] + SOURCES

LONGEST_FILE = 400
MOST_FILES = 15
ONE_FILE_A_COMMAND = {"voiceflow_worker/cli"}
OF_THE_SANDBOX_TOO = {"EventKind", "KeyPress", "Script"}
"""Classes of the sandbox that users import, and whose names are those of other classes of the product."""
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "types", "util", "utils"}


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_a_file_holds_one_thing() -> None:
    lines = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    long = {path: count for path, count in lines.items() if count > LONGEST_FILE}
    assert not long, "these files hold more than one thing: divide them by role"


def test_a_room_has_about_a_dozen_files() -> None:
    rooms = Counter(place(path.parent) for path in SOURCES)
    crowded = {room: count for room, count in rooms.items() if count > MOST_FILES and room not in ONE_FILE_A_COMMAND}
    assert not crowded, "divide these rooms by subject"


def test_every_room_says_what_it_is_for() -> None:
    doors = [path for path in SOURCES if path.name == "__init__.py"]
    silent = [place(path) for path in doors if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent
    assert {path.parent for path in doors} == {path.parent for path in SOURCES}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(module_graph()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circles(room_graph()) == []


def test_a_circle_would_be_found() -> None:
    graph = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"b"}), "d": frozenset({"a"})}
    assert circles(graph) == [["b", "c"]]


def test_the_name_of_a_public_class_stands_once() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    twice = {name for name, places in homes.items() if len(places) > 1}
    assert twice == OF_THE_SANDBOX_TOO, [homes[name] for name in twice]


def test_a_file_is_named_by_its_role() -> None:
    vague = [
        place(path)
        for path in WRITTEN
        if NAMES_THAT_SAY_NOTHING.intersection([*path.stem.split("_"), *path.parent.name.split("_")])
    ]
    assert not vague, "these names do not say what is in them"


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


def test_imports_go_one_way() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_modules_that_are_named_in_texts_exist() -> None:
    """A dotted name in backquotes, as `core.settling.settle.Settler`, is a module, or a name within one."""
    rooms = "|".join(sorted({place(path.parent).split("/")[1] for path in SOURCES if path.parent.parent != ROOT}))
    named = re.compile(rf"`(?:voiceflow_worker\.)?((?:{rooms})(?:\.[a-z_]+)+)(?:\.([A-Za-z_]+))?`")
    missing: list[str] = []
    for path in SOURCES:
        for module, name in named.findall(path.read_text(encoding="utf-8")):
            full = f"voiceflow_worker.{module}"
            home = full if full in modules() else full.rpartition(".")[0]
            inner = name or (module.rpartition(".")[2] if home != full else "")
            if home not in modules() or (inner and inner not in modules()[home].read_text(encoding="utf-8")):
                missing.append(f"{place(path)}: `{module}{'.' * bool(name)}{name}`")
    assert not missing
