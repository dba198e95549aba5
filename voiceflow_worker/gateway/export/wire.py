"""How the log export is asked for on the wire (8x8 voice log export reference)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import orjson

DOCUMENTED = "https://voice.wavecell.com"
"""The only address that the reference gives for the export."""


class ExportWire:
    """Builds the export's requests for one sub-account. Its repr never shows the key.

    `base_url`, where one is given, replaces the documented address. All of them are checked by `wire.Wire` already.
    """

    __slots__ = ("_exports", "_headers", "_key")

    def __init__(self, api_key: str, sub_account: str, *, base_url: str | None) -> None:
        root = (base_url or DOCUMENTED).rstrip("/")
        self._exports = f"{root}/api/v1/subaccounts/{quote(sub_account, safe='')}/messages/exports"
        self._key = api_key.strip()
        self._headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json",
            "User-Agent": "voiceflow-worker",
            # One connection each: they are few, and a call must not meet one that is just being closed.
            "Connection": "close",
        }

    def __repr__(self) -> str:
        return f"<ExportWire {self._exports}>"

    @property
    def host(self) -> str:
        """Where the export is asked for."""
        return httpx.URL(self._exports).host

    def start(self, *, since: datetime, until: datetime, extensions: Mapping[str, Any]) -> httpx.Request:
        """The POST that begins an export of all rows from `since` to `until`, widened to whole seconds."""
        content = orjson.dumps({"from": _whole_second(since), "to": _whole_second(until, up=True), "limit": 0})
        headers = {**self._headers, "Content-Type": "application/json"}
        return httpx.Request("POST", self._exports, headers=headers, content=content, extensions=dict(extensions))

    def state(self, job_id: str, *, extensions: Mapping[str, Any]) -> httpx.Request:
        """How far an export is."""
        return httpx.Request("GET", self._job(job_id), headers=self._headers, extensions=dict(extensions))

    def cancel(self, job_id: str, *, extensions: Mapping[str, Any]) -> httpx.Request:
        """Call an export off."""
        return httpx.Request("DELETE", self._job(job_id), headers=self._headers, extensions=dict(extensions))

    def file(self, url: str, *, extensions: Mapping[str, Any]) -> httpx.Request | None:
        """A file of an export by its signed URL, which is all it needs: the key is not sent there. None for no URL."""
        try:
            address = httpx.URL(self._exports).join(url)
        except httpx.InvalidURL:
            return None
        if address.scheme not in {"http", "https"} or not address.host:
            return None
        headers = {"Accept": "text/csv, */*", "User-Agent": "voiceflow-worker", "Connection": "close"}
        return httpx.Request("GET", address, headers=headers, extensions=dict(extensions))

    def hide(self, text: str) -> str:
        """The text without the key, should somebody have sent it back."""
        return text.replace(self._key, "[API key]")

    def _job(self, job_id: str) -> str:
        return f"{self._exports}/{quote(job_id, safe='')}"


def _whole_second(at: datetime, *, up: bool = False) -> str:
    at = at.astimezone(UTC)
    if up and at.microsecond:
        at += timedelta(seconds=1)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
