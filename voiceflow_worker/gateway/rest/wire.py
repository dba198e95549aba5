"""HTTP requests about one sub-account that place no call (8x8 voice API reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from voiceflow_worker.model.text.printable import without_secret

# Each of these rare requests closes its connection, so that no POST gets a connection that is just being closed.
_HEADERS = {"User-Agent": "voiceflow-worker", "Connection": "close"}


class RestWire:
    """A builder of requests about one sub-account. Its repr does not show the key.

    It does not check its arguments, because the client has already made a `wire.Wire` with them, which checks them.
    """

    __slots__ = ("_headers", "_key", "_root", "sub_account")

    def __init__(self, api_key: str, sub_account: str, *, base_url: str) -> None:
        self.sub_account: str = sub_account
        self._root = f"{base_url.rstrip('/')}/api/v1/subaccounts/{quote(sub_account, safe='')}"
        self._key = api_key.strip()
        self._headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json", **_HEADERS}

    def __repr__(self) -> str:
        return f"<RestWire {self._root}>"

    def url(self, *path: str) -> httpx.URL:
        """The URL of the resource at `path`, with the segments of the path quoted."""
        return httpx.URL("/".join((self._root, *(quote(segment, safe="") for segment in path))))

    def request(
        self, method: str, *path: str, body: Mapping[str, object] | None = None, extensions: Mapping[str, Any]
    ) -> httpx.Request:
        """A request about the resource at `path`."""
        content = None if body is None else orjson.dumps(body)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        return httpx.Request(method, self.url(*path), headers=headers, content=content, extensions=dict(extensions))

    def download(self, url: httpx.URL, *, extensions: Mapping[str, Any]) -> httpx.Request:
        """A request for a file behind a signed link. It does not contain the API key, because the link needs none."""
        return httpx.Request("GET", url, headers={"Accept": "text/csv, */*", **_HEADERS}, extensions=dict(extensions))

    def hide(self, text: str) -> str:
        """The text without the key, which a server may have sent back."""
        return without_secret(text, self._key, shown="[API key]")
