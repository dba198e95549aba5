"""HTTP Basic authentication (RFC 7617) of the pages."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Iterable

from voiceflow_worker.errors import SettingsError

CHALLENGE = 'Basic realm="voiceflow", charset="UTF-8"'


class BasicAuth:
    """Compares the password that a request shows with `secret`; any user name will do.

    Raises SettingsError for an empty secret, which would let in everybody.
    """

    def __init__(self, secret: str) -> None:
        if not secret.strip():
            raise SettingsError("the secret of the pages is empty; give the password that people shall type")
        self._secret = secret.encode()

    def allows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers may come in. Names are in lower case."""
        shown = [value for name, value in headers if name == b"authorization"]
        password = _password(shown[0]) if len(shown) == 1 else None
        return password is not None and hmac.compare_digest(password, self._secret)


def _password(value: bytes) -> bytes | None:
    scheme, _, credentials = value.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        _, colon, password = b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon else None
