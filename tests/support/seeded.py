"""Seeded defects: functions of the product with a text of their source replaced, until a test ends."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getsource, unwrap
from textwrap import dedent
from types import CodeType
from typing import Any

import pytest


def defective(function: Callable[..., Any], was: str, now: str) -> tuple[Any, CodeType]:
    """A function without what wraps it, and its code in which this text, which is there once, is another.

    The lines of the texts begin as in the function.
    """
    bare: Any = unwrap(function)
    source = dedent(getsource(bare))
    assert source.count(was) == 1, (function, was)
    made: dict[str, Any] = {}
    exec(compile(source.replace(was, now), f"<{bare.__name__}>", "exec"), bare.__globals__, made)
    return bare, made[bare.__name__].__code__


def seed(patch: pytest.MonkeyPatch, function: Callable[..., Any], was: str, now: str) -> None:
    """Break a function, wherever it was imported to."""
    bare, code = defective(function, was, now)
    patch.setattr(bare, "__code__", code)
