"""Data and modules loaded at start, because later no file descriptor may be free."""

from __future__ import annotations

from importlib import import_module

_LATE = ("phonenumbers.timezone", "voiceflow_worker.model.numbers.time_zone", "traceback", "linecache")


def load_what_is_read_later() -> None:
    """Read every numbering plan (0.2 s), and modules that are otherwise imported with the first event of their kind."""
    from phonenumbers.phonemetadata import PhoneMetadata

    PhoneMetadata.load_all()
    for name in _LATE:
        import_module(name)
