"""The first entries of a listing that is read page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def first(pages: AsyncIterable[Sequence[T]], *, limit: int) -> AsyncGenerator[T]:
    """The first `limit` entries of these pages, or all entries if `limit` is 0."""
    left = limit
    async for page in pages:
        for entry in page[:left] if limit else page:
            yield entry
        left -= len(page)
        if limit and left <= 0:
            return
