"""Bodies of requests that were compressed by gzip or deflate."""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO

GZIP, DEFLATE = b"\x1f\x8b", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_LAYERS = 2
"""The most times that a body is decompressed: once by its sender, once by a proxy."""
READABLE = frozenset({"gzip", "x-gzip", "identity", ""})
"""The values of Content-Encoding whose bodies, if they cannot be read, are no fault of their encoding."""


def decompressed(content: bytes, *, longest: int) -> bytes:
    """The body without its compression by gzip or deflate. If it is too long, its first `longest` + 1 bytes.

    Its bytes decide, and not Content-Encoding, because a proxy may change one and not the other: JSON begins neither as
    gzip nor as deflate does. A damaged body is returned as it is.
    """
    for _ in range(_LAYERS):
        try:
            if content.startswith(GZIP):
                with gzip.GzipFile(fileobj=BytesIO(content)) as packed:
                    content = packed.read(longest + 1)
            elif content.startswith(DEFLATE):
                content = zlib.decompressobj().decompress(content, longest + 1)
        except (OSError, EOFError, zlib.error):
            return content
    return content
