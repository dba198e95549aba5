"""Public holidays of countries and their parts, by the `holidays` library.

A calendar is named by its ISO 3166 code: a country (`SG`), or a part of one (`DE-BY`, `US-CA`). Holidays that are moved
to another day are free on that day too, as the library has it ("observed").
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

from voiceflow_worker.errors import InvalidInputError

_CODE = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,6}))?")


def read_calendar(text: str) -> str:
    """The code of a calendar as people write it (`sg`, `DE-BY`). Raises InvalidInputError for one that is not known."""
    code = text.strip().upper()
    code = "GB" + code[2:] if code[:2] == "UK" else code  # ISO 3166 keeps UK free for exactly this
    if _CODE.fullmatch(code) is None:
        raise InvalidInputError(
            f"{text.strip()[:40]!r} is not a calendar of holidays: give a country such as SG, or a part of one such as "
            "DE-BY (ISO 3166)"
        )
    holidays_of(code, year=2026)  # any year: what is looked at is the name
    return code


@lru_cache(maxsize=256)
def holidays_of(code: str, *, year: int) -> frozenset[date]:
    """The holidays of one year. Raises InvalidInputError for a calendar that the library does not have."""
    # 40 ms to import, and as much for the first country: loaded by those who ask for holidays only.
    import holidays

    country, _, part = code.partition("-")
    try:
        return frozenset(holidays.country_holidays(country, subdiv=part or None, years=year))
    except NotImplementedError:
        raise InvalidInputError(
            f"there is no calendar of holidays for {code!r}: give a country such as SG, or a part of one such as DE-BY "
            "(ISO 3166), that the `holidays` library knows"
        ) from None
