"""The reason why a file cannot be read, and the remedy for one that cannot be read or written."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOENT: "; check its name and its folder",
    errno.ENOTDIR: "; check its name and its folder",
    errno.EISDIR: "; name a file in it",
    errno.EACCES: "; allow this user to use it and its folder",
}


def why_unreadable(error: OSError | ValueError) -> str:
    """The reason why a text file cannot be read, to be added to a message about the file."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def file_remedy(error: OSError) -> str:
    """The remedy, to be added to a message about the file; empty if there is none for this error."""
    return _REMEDIES.get(error.errno or 0, "")
