"""Waiting times before retries, spread by a number that is computed from the job id."""

from __future__ import annotations

import hashlib
from datetime import timedelta


def backoff(failures: int, *, first: timedelta, longest: timedelta, seed: str) -> timedelta:
    """The wait after `failures` failures in a row: doubling from `first` to `longest`, spread over its upper half.

    The spread (equal jitter) keeps jobs that failed together from retrying together. It is computed from `seed`, so the
    same job and count give the same wait.
    """
    doubled = first * (1 << min(max(failures - 1, 0), 30))
    whole = min(doubled, longest)
    return whole * (0.5 + 0.5 * spread(f"{seed}/{failures}"))


def spread(seed: str) -> float:
    """A number in [0, 1) that looks random and is the same for the same seed."""
    # 48 bits: from 54 on the largest of them would round up to 1.0 as a float.
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=6).digest()) / 2**48
