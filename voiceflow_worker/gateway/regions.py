"""The regions of the 8x8 Voice API and their addresses (8x8 voice API reference, "Base URL")."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from voiceflow_worker.errors import SettingsError


class Region(StrEnum):
    """Where a sub-account lives; one region does not know the sub-accounts of another."""

    ASIA_PACIFIC = "ap"
    NORTH_AMERICA = "us"
    EUROPE = "eu"
    INDONESIA = "id"

    @property
    def base_url(self) -> str:
        """The address of the API in this region."""
        return _BASE_URLS[self]

    @classmethod
    def named(cls, name: str) -> Self:
        """The region of this name. Raises SettingsError for any other."""
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(region.value for region in cls)
            raise SettingsError(f"there is no region {name!r}; set VOICEFLOW_REGION to one of {known}") from None


_BASE_URLS = {
    Region.ASIA_PACIFIC: "https://voice.8x8.com",
    Region.NORTH_AMERICA: "https://voice.us.8x8.com",
    Region.EUROPE: "https://voice.8x8.uk",
    Region.INDONESIA: "https://voice.8x8.id",
}
