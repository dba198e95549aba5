"""JSON decoding of request bodies."""

from __future__ import annotations

import json
from typing import NoReturn

import orjson

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decoded(content: bytes) -> object:
    r"""The JSON value of a body. Raises ValueError if it is not JSON (RFC 8259).

    Half a surrogate pair (`"\ud800"`), which JSON allows and Unicode does not, is read as U+FFFD: one letter in an
    error message must not cost a summary.
    """
    content = content.removeprefix(_BYTE_ORDER_MARK)  # RFC 8259 §8.1 lets a reader ignore it
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in content:
            raise
        whole = _without_halves(content)
        if whole is None:
            raise
        try:
            return orjson.loads(whole)
        except orjson.JSONDecodeError:
            raise error from None


def _without_halves(content: bytes) -> bytes | None:
    """The same JSON with U+FFFD for each half of a surrogate pair; None if the error is another one."""
    try:
        value: object = json.loads(content, parse_constant=_refuse)
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
