"""Patterns of queue names and sub-account ids; names of values in texts."""

from __future__ import annotations

import re
from collections.abc import Collection

QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")
"""The pattern of a queue name. A name has at most 16 characters, so that a job id with a POST number fits into the 50
characters of a `clientRequestId`."""

SUB_ACCOUNT_ID = re.compile(r"[A-Za-z0-9\-._&]{3,50}")
"""The pattern of a sub-account id (8x8 voice API reference)."""

_NOT_A_WORD = re.compile(r"\W+")


def folded(name: str) -> str:
    """The name in lower case, with _ for spaces and punctuation: `Unique Key` becomes `unique_key`."""
    return _NOT_A_WORD.sub("_", name.strip().casefold()).strip("_")


def name_among(names: Collection[str], wanted: str) -> str:
    """The one of these names that a text means by `wanted`: the same name, else the folded one, else `wanted`."""
    if wanted in names:
        return wanted
    return short if (short := folded(wanted)) in names else wanted
