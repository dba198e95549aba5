"""The remedy for a file that cannot be read or written."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOENT: "; check its name and its folder",
    errno.ENOTDIR: "; check its name and its folder",
    errno.EISDIR: "; name a file in it",
    errno.EACCES: "; allow this user to use it and its folder",
}


def file_remedy(error: OSError) -> str:
    """The remedy, to be added to a message about the file; empty if there is none for this error."""
    return _REMEDIES.get(error.errno or 0, "")
