"""Data and modules that are loaded at start, because later there may be no free file descriptor."""

from __future__ import annotations

from importlib import import_module

_LATE = ("phonenumbers.timezone", "voiceflow_worker.model.numbers.time_zone", "traceback", "linecache")


def load_what_is_read_later() -> None:
    """Load all numbering plans (0.2 s), and modules that would otherwise be imported when they are first needed."""
    from phonenumbers.phonemetadata import PhoneMetadata

    PhoneMetadata.load_all()
    for name in _LATE:
        import_module(name)
