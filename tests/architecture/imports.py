"""The imports of the product, read from its source: modules, rooms (folders) and the circles among them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("voiceflow_worker", "airflow_provider")
Graph = Mapping[str, frozenset[str]]


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the product by its dotted name."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def module_graph() -> Graph:
    """Which module imports which; imports for type checkers and imports within functions count too."""
    return {name: frozenset(_imported_by(name)) for name in modules()}


def room_of(name: str) -> str:
    """The folder of a module, as a dotted name: a package's own `__init__` belongs to its folder."""
    return ".".join(modules()[name].parent.relative_to(ROOT).parts)


@cache
def room_graph() -> Graph:
    """Which room imports from which. The top folders are left out: the front door opens every room."""
    found: dict[str, set[str]] = {}
    for name, imported in module_graph().items():
        here = room_of(name)
        if here in PACKAGES:
            continue
        found.setdefault(here, set()).update({room_of(each) for each in imported} - {here, *PACKAGES})
    return {room: frozenset(rooms) for room, rooms in found.items()}


def circles(graph: Graph) -> Sequence[Sequence[str]]:
    """Groups of names that import each other, directly or through others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in sorted(graph.get(name, ())):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def _imported_by(name: str) -> Iterable[str]:
    known = modules()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
