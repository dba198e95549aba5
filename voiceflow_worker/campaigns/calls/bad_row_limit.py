"""How many bad rows may be left out so that the others are called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from voiceflow_worker.model.text.wording import count_of

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_COUNT = re.compile(r"\d{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRowLimit:
    """The most bad rows that may be left out: a `count`, or a `share` of all rows in percent. Never all of them."""

    count: int | None = None
    share: Decimal | None = None

    @classmethod
    def read(cls, text: str) -> BadRowLimit:
        """The limit in a text, such as `20` or `5 %`. Raises ValueError for any other text."""
        written = text.strip()
        if _COUNT.fullmatch(written):
            return cls(count=int(written))
        if (found := _SHARE.fullmatch(written)) and (share := Decimal(found[1])) <= 100:
            return cls(share=share)
        raise ValueError(f"{text[:40]!r} is no limit of bad rows: give true, a number of rows, or a share such as 5 %")

    def allows(self, bad: int, *, rows: int) -> bool:
        """Whether so many of the rows may be left out."""
        if not bad:
            return True
        most = rows * self.share / 100 if self.share is not None else rows if self.count is None else self.count
        return bad < rows and bad <= most

    def in_words(self) -> str:
        """The limit in words."""
        if self.share is not None:
            return f"at most {self.share.normalize():f} %"
        return "any, but not all" if self.count is None else f"at most {count_of(self.count, 'row')}"


def may_leave_out(bad: int, *, rows: int, limit: bool | BadRowLimit) -> bool:
    """Whether so many bad rows may be left out; True allows all of them, and False none."""
    return limit.allows(bad, rows=rows) if isinstance(limit, BadRowLimit) else limit or not bad
