"""Tests wait for events and conditions; a timed sleep has its reason on its line."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LOOPS = {"anyio", "asyncio", "time", "trio"}


def unexplained_sleeps(source: str) -> list[int]:
    """The lines with a timed sleep and without a reason. A sleep of 0 is a checkpoint, and waits for nothing."""
    tree = ast.parse(source)
    reasons = set(_reasons(source))
    checkpoints = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_zero(node)}
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in LOOPS
        for alias in node.names
        if alias.name == "sleep"
    }
    sleeps = [
        node.lineno
        for node in ast.walk(tree)
        if id(node) not in checkpoints
        and (
            (isinstance(node, ast.Attribute) and node.attr == "sleep" and _is_loop(node.value))
            or (isinstance(node, ast.Name) and node.id in names)
        )
    ]
    return sorted(set(sleeps) - reasons)


def _is_loop(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in LOOPS


def _is_zero(call: ast.Call) -> bool:
    return [each.value for each in call.args if isinstance(each, ast.Constant)] == [0]


def _reasons(source: str) -> Iterator[int]:
    """The lines with a comment of at least three words, that for linters aside."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comment = re.sub(r"#\s*(noqa|type|pyright):\s*[\w\[\], ]+", "", token.string)
            if len(comment.strip("# -").split()) >= 3:
                yield token.start[0]


def test_every_timed_sleep_of_the_tests_has_a_reason() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if "sleep" in (source := path.read_text(encoding="utf-8"))
        for line in unexplained_sleeps(source)
    ]
    assert not found, f"await an event, or tests.support.waiting, or say on the line why time itself must pass: {found}"


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("time.sleep(0.1)", True),
        ("await anyio.sleep(pause)", True),
        ("anyio.run(anyio.sleep, 1.2)", True),
        ("from trio import sleep as rest; rest(1)", True),
        ("await asyncio.sleep(1)  # noqa: ASYNC110", True),
        ("await asyncio.sleep(1)  # later", True),
        ("time.sleep(3)  # the length of the outage", False),
        ("await anyio.sleep(0)", False),
        ("await anyio.sleep_forever()", False),
        ("await clock.sleep(5)", False),
    ],
)
def test_a_sleep_without_a_reason_is_found(line: str, is_found: bool) -> None:
    assert bool(unexplained_sleeps(f"async def test():\n    {line}\n")) is is_found
