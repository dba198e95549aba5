"""Requests on the wire: addresses, headers and bodies (8x8 callflows reference, 8x8 voice API reference)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from voiceflow_worker.core.ports import Placement
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.flows.bodies import write_valid_until
from voiceflow_worker.model.text.printable import without_secret, without_secrets
from voiceflow_worker.model.text.web_address import is_plain_and_remote
from voiceflow_worker.model.text.wording import SUB_ACCOUNT_ID

BASE_URL = "https://voice.8x8.com"
"""The only documented address of the voice API (8x8 voice API reference, "Base URL")."""
EXPORT_URL = "https://voice.wavecell.com"
"""The only documented address of the log export (8x8 voice log export reference)."""

CHECK_API_KEY = "check the API key (VOICEFLOW_API_KEY)"
CHECK_BASE_URL = "check the base URL (VOICEFLOW_BASE_URL)"
CHECK_SUB_ACCOUNT = "check the sub-account id (VOICEFLOW_SUB_ACCOUNT)"
"""The remedies of requests that 8x8 refuses because of a setting."""
_KEY = re.compile(r"[\x21-\x7e]+")


# Each request that places no call closes its connection, so that no POST gets a connection that is just being closed.
_HEADERS = {"User-Agent": "voiceflow-worker", "Connection": "close"}


class Wire:
    """The address and the headers of the POSTs that place calls for one sub-account, and all other requests about it.

    Its repr does not show the key. Raises SettingsError for an invalid base URL, sub-account id or API key.
    """

    __slots__ = ("_headers", "_key", "_root", "calls", "host", "post_headers", "sub_account")

    def __init__(self, api_key: str, sub_account: str, *, base_url: str, allow_plain_http: bool = False) -> None:
        base = _checked_base(base_url, allow_plain_http=allow_plain_http)
        if not SUB_ACCOUNT_ID.fullmatch(sub_account):
            raise SettingsError(
                f"{sub_account!r} is not a sub-account id (3 to 50 letters, digits, and - . _ &); {CHECK_SUB_ACCOUNT}"
            )
        key = api_key.strip()
        if not _KEY.fullmatch(key):
            # The text is not quoted: it may be most of a key.
            raise SettingsError(
                "the API key is empty, or contains spaces or other characters that are not allowed in a key; "
                f"{CHECK_API_KEY}"
            )
        self.sub_account: str = sub_account
        self.host: str = base.host
        self._key = key
        self._root = f"{str(base).rstrip('/')}/api/v1/subaccounts/{quote(sub_account, safe='')}"
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", **_HEADERS}
        self.calls: httpx.URL = self.url("callflows")
        headers = {
            "Host": base.netloc.decode("ascii"),
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            # Compression saves nothing on a few hundred bytes, and a broken encoding would leave a call in doubt.
            "Accept-Encoding": "identity",
            "User-Agent": "voiceflow-worker",
        }
        self.post_headers: httpx.Headers = httpx.Headers(headers)

    def __repr__(self) -> str:
        return f"<Wire {self.calls}>"

    def url(self, *path: str) -> httpx.URL:
        """Return the URL of the resource at `path`, with the segments of the path quoted."""
        return httpx.URL("/".join((self._root, *(quote(segment, safe="") for segment in path))))

    def request(
        self, method: str, *path: str, body: Mapping[str, object] | None = None, extensions: Mapping[str, Any]
    ) -> httpx.Request:
        """Return a request about the resource at `path`."""
        content = None if body is None else orjson.dumps(body)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        return httpx.Request(method, self.url(*path), headers=headers, content=content, extensions=dict(extensions))

    def download(self, url: httpx.URL, *, extensions: Mapping[str, Any]) -> httpx.Request:
        """Return a request for a file behind a signed link.

        It does not contain the API key, because the link needs none.
        """
        return httpx.Request("GET", url, headers={"Accept": "text/csv, */*", **_HEADERS}, extensions=dict(extensions))

    def hide(self, text: str) -> str:
        """Return the text without the key, which a server may have sent back."""
        return without_secret(text, self._key, shown="[API key]")


def body_of(placement: Placement) -> bytes:
    """Return the body of a placement's POST: the stored text, with its ids and its `validUntil` added.

    Nothing else changes. A batch whose name has other than printable ASCII is not named: whether 8x8 takes it is not
    documented.

    Raises ValueError if the text does not begin and end like an object, or if `valid_until` has no zone.
    """
    body, batch = placement.body, placement.client_batch_id
    if not (body.startswith("{") and body.endswith("}")):
        raise ValueError("the stored body is not the text of one JSON object without space around it")
    inner = body[:-1]
    comma = "" if inner.rstrip() == "{" else ","
    request_id, until = orjson.dumps(placement.client_request_id).decode(), write_valid_until(placement.valid_until)
    added = f'"clientRequestId":{request_id},"validUntil":"{until}"'
    if batch and batch.isascii() and batch.isprintable():
        added += f',"clientBatchId":{orjson.dumps(batch).decode()}'
    return f"{inner}{comma}{added}}}".encode()


def _checked_base(base_url: str, *, allow_plain_http: bool) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise SettingsError(
            f"{without_secrets(base_url)!r} is not a valid base URL: it must begin with https://, or with http:// for "
            f"an address on this machine; {CHECK_BASE_URL}"
        )
    if url.userinfo or url.query or url.fragment:
        raise SettingsError(f"the base URL must not contain a user name, a query or a fragment; {CHECK_BASE_URL}")
    if is_plain_and_remote(str(url)) and not allow_plain_http:
        raise SettingsError(
            f"connections to http://{url.host} are not encrypted, and anybody on the network could read the API key. "
            "Nothing was sent. Give an https:// address, or set VOICEFLOW_ALLOW_PLAIN_HTTP=yes if you trust the "
            "network"
        )
    return url
