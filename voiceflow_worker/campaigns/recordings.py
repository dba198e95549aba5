"""The recordings that the calls of a campaign play: what is wrong with them, and how long they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from voiceflow_worker.campaigns.preview import MOST_FILES, PlayedFile, Preview
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.recordings import Sound, examine

if TYPE_CHECKING:
    from voiceflow_worker.gateway.network import Network

COULD_NOT_PLAY = -2006
"""The code of 8x8 for a call whose file could not be downloaded or played."""


async def with_recordings(
    preview: Preview, *, network: Network, file: str | None, private: bool = False
) -> tuple[Preview, tuple[Finding, ...]]:
    """A preview with the lengths of its recordings, and their faults: each address is fetched once.

    `private` allows hosts of this network, where calls go to a sandbox.
    """
    files = preview.files
    if not files:
        return preview, ()
    sounds = await examine(files, network=network, private=private)
    lengths = {address: round(sounds[address].seconds, 1) for address in files}
    return preview.with_recordings(lengths), tuple(_faults(files, sounds, file=file))


def _faults(files: Mapping[str, PlayedFile], sounds: Mapping[str, Sound], *, file: str | None) -> Iterator[Finding]:
    for address in files:
        sound = sounds[address]
        if sound.fault is not None:
            yield _finding(address, sound.fault, files, file, Severity.ERROR)
        for warning in sound.warnings:
            yield _finding(address, warning, files, file, Severity.WARNING)
    if len(files) == MOST_FILES:
        message = f"only the first {MOST_FILES:,} recordings were fetched"
        yield Finding(message=message, severity=Severity.WARNING, file=file)


def _finding(address: str, said: str, files: Mapping[str, PlayedFile], file: str | None, severity: Severity) -> Finding:
    shown = address.partition("?")[0]  # without the signature of a link
    code = COULD_NOT_PLAY if severity is Severity.ERROR else None
    return Finding(
        message=f"the recording {shown} {said}", severity=severity, code=code, file=file, row=files[address].row
    )
