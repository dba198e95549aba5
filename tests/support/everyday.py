"""Of many cases of one kind, those that are tried every day; `./dev test --all` tries all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pytest


def combinations(*values: Iterable[object]) -> list[Any]:
    """All combinations, for `parametrize`; every day so many that each value is in one of them."""
    kinds = [list(each) for each in values]
    daily = {tuple(place % len(kind) for kind in kinds) for place in range(max(map(len, kinds)))}
    return [
        pytest.param(
            *(kind[place] for kind, place in zip(kinds, places, strict=True)),
            marks=[] if places in daily else pytest.mark.slow,
        )
        for places in product(*(range(len(kind)) for kind in kinds))
    ]


def spread(cases: Mapping[str, object], *, every: int) -> list[Any]:
    """All cases with their names, for `parametrize`; every day each `every`th of them, without TEST_EACH_CASE."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=name,
            marks=pytest.mark.slow if place % every and "TEST_EACH_CASE" not in os.environ else [],
        )
        for place, (name, case) in enumerate(cases.items())
    ]
