"""How the rest of the 8x8 API is asked on the wire (8x8 voice API reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson


class AccountWire:
    """Builds requests of one sub-account. Its repr never shows the key.

    What it is given was checked by `wire.Wire` already.
    """

    __slots__ = ("_headers", "_key", "_root", "sub_account")

    def __init__(self, api_key: str, sub_account: str, *, base_url: str) -> None:
        self.sub_account = sub_account
        self._root = f"{base_url.rstrip('/')}/api/v1/subaccounts/{quote(sub_account, safe='')}"
        self._key = api_key.strip()
        self._headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json",
            "User-Agent": "voiceflow-worker",
            # These requests are rare: none leaves a connection behind for a call to meet at its end.
            "Connection": "close",
        }

    def __repr__(self) -> str:
        return f"<AccountWire {self._root}>"

    @property
    def host(self) -> str:
        """Where it is asked."""
        return httpx.URL(self._root).host

    def request(
        self, method: str, *path: str, body: Mapping[str, object] | None = None, extensions: Mapping[str, Any]
    ) -> httpx.Request:
        """A request about what is at `path`, in segments that need not be fit for a URL."""
        url = "/".join((self._root, *(quote(segment, safe="") for segment in path)))
        content = None if body is None else orjson.dumps(body)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        return httpx.Request(method, url, headers=headers, content=content, extensions=dict(extensions))

    def hide(self, text: str) -> str:
        """The text without the key, should somebody have sent it back."""
        return text.replace(self._key, "[API key]")
