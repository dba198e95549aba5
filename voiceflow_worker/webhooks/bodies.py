"""The JSON in the body of an event: its compression, its character encoding, and slips of whoever wrote it.

The body of a summary is the only copy of an outcome, and 8x8 may not send it again. So whatever can be read is read: a
bad character or number costs only itself.
"""

from __future__ import annotations

import json
import math
import re

import orjson

from voiceflow_worker.asgi.compression import DEFLATE, GZIP, READABLE

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ACCEPTED_ENCODING = b"gzip"
"""The value of Accept-Encoding in an answer to a body of another encoding (RFC 9110 §15.5.16)."""

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A NUL in a JSON text that Python has written, after the escaped backslashes before it."""
_DIGITS = len(str(2**64))


def unread_encoding(content: bytes, encodings: str) -> str | None:
    """Why a body that is no JSON may be compressed, as a clause; None if nothing says so.

    `encodings` is the value of its Content-Encoding.
    """
    if content.startswith((GZIP, *DEFLATE)):
        return "the body is compressed, and damaged"
    names = (each.strip().lower() for each in encodings.split(","))
    found = next((name for name in names if name not in READABLE), None)
    return None if found is None else f"the body has the encoding {found}, which is not read here"


def decoded(content: bytes) -> object:
    r"""The JSON value of a body. Raises ValueError if it is not JSON (RFC 8259).

    UTF-16 and UTF-32 are read too. What no store can keep becomes U+FFFD: a byte that is not UTF-8, NUL, and half a
    surrogate pair (`"\ud800"`). NaN, infinity and numbers that no float can hold become null. Line breaks and tabs may
    stand in texts as they are. Of a name that an object has twice, the last value counts.
    """
    content = content.removeprefix(_BYTE_ORDER_MARK)  # RFC 8259 §8.1 allows readers to ignore it
    problem: ValueError
    try:
        value: object = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        problem = error
    else:
        if b"\\u0000" not in content:
            return value
        problem = ValueError("it has a NUL character at a depth that cannot be read")
    try:
        return _mended(content)
    except (ValueError, RecursionError):
        raise problem from None


def _mended(content: bytes) -> object:
    text = content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff").rstrip("\0")
    value: object = json.loads(text, strict=False, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    # Each NUL, and each surrogate without a pair, becomes U+FFFD.
    text = _NUL.sub(r"\1\\ufffd", json.dumps(value, ensure_ascii=False))
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return orjson.loads(text)


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole(digits: str) -> float | int | None:
    """A whole number as orjson reads it: exactly if it has 64 bits, else as a float."""
    if len(digits) <= _DIGITS and -(2**63) <= int(digits) < 2**64:
        return int(digits)
    return _finite(digits)
