"""What a recording is, by its header and its frames: nothing of it is decoded.

8x8 plays WAV and MP3 (callflows guide, playFile). What the bytes are is decided by their first ones, since names lie;
the length, codec and channels are what the header of a WAV and the frames of an MP3 say. A header that cannot be true
is a fault. Players differ where a file contradicts itself: there is a warning for each such place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import unpack_from
from typing import NamedTuple

MOST_BYTES = 5 * 1024 * 1024
"""The size from which on 8x8 plays no file (5120 KB)."""
_DIFFERS = 0.1
"""The part of the length by which a header may differ from the sound, beside a tenth of a second."""

_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "an MPEG-4 file, such as .m4a"),
    (0, b"OggS", "an Ogg file (Vorbis or Opus)"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"FORM", "an AIFF file"),
    (0, b".snd", "a Sun audio file (.au)"),
    (0, b"caff", "a Core Audio file (.caf)"),
    (0, b"RIFX", "a WAV of big-endian numbers"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"0&\xb2u", "a Windows Media file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"%PDF", "a PDF file"),
    (0, b"{", "a JSON document"),
    (0, b"<", "a web page"),
)
"""What is neither WAV nor MP3, by bytes at a place."""
_PAGES = ("a web page", "a JSON document")
"""What an address shows that does not lead to the file itself, such as that of a share."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What was found: its length, why a phone plays nothing of it (`fault`), and what may differ (`warnings`)."""

    seconds: float = 0.0
    fault: str | None = None
    warnings: tuple[str, ...] = ()


def examined(data: bytes) -> Sound:
    """What a file is, by its header and its frames."""
    if not data:
        return Sound(fault="is empty")
    if (other := _other_kind(data)) is not None:
        remedy = "give the address that downloads the file itself" if other in _PAGES else "convert it"
        return Sound(fault=f"is {other}, and 8x8 plays WAV and MP3, whatever its name is: {remedy}")
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return _examined_wav(data)
    return _examined_mp3(data) or Sound(fault="is neither WAV nor MP3 by its bytes: save it as one of them")


def _other_kind(data: bytes) -> str | None:
    data = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")  # a mark and blanks before a page
    if data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xF6 == 0xF0:
        return "an AAC file"
    return next((kind for at, start, kind in _OTHERS if data[at : at + len(start)] == start), None)


# -- WAV --------------------------------------------------------------------------------------------------------------

_PCM, _FLOAT, _LAWS, _MP3, _EXTENSIBLE = 1, 3, (6, 7), 0x55, 0xFFFE
_PACKED = (2, 0x11)
"""ADPCM of Microsoft and of IMA: about four bits a sample."""
_NOT_PLAYED = {
    0x31: "GSM 6.10",
    0x40: "G.721",
    0x14: "G.723",
    0x45: "G.726",
    0x64: "G.726",
    0x65: "G.722",
    0x28F: "G.722",
}
"""Codecs of telephony, by the format tag of a WAV (RFC 2361, and what ffmpeg writes)."""
_SLOWEST, _FASTEST, _MOST_CHANNELS = 4_000, 192_000, 16
_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF)
"""The sizes that programs write which do not know the length when they begin: ffmpeg, sox and others."""
_SAVE = "save it as WAV (PCM, 8 or 16 kHz, mono) or MP3"


class _Form(NamedTuple):
    """The format chunk of a WAV: its tag, samples a second, bytes a second and a frame, and bits a sample."""

    tag: int
    channels: int
    rate: int
    bytes_a_second: int
    frame: int
    bits: int

    @property
    def is_plausible(self) -> bool:
        """Whether its numbers can be those of one sound."""
        if not (_SLOWEST <= self.rate <= _FASTEST and 1 <= self.channels <= _MOST_CHANNELS and self.frame):
            return False
        if self.tag in (_PCM, _FLOAT, *_LAWS):
            is_whole = self.frame * 8 == self.channels * self.bits and self.bits in (8, 16, 24, 32, 64)
            return is_whole and self.bytes_a_second == self.rate * self.frame
        samples = self.rate * self.channels
        return samples // 8 <= self.bytes_a_second <= samples if self.tag in _PACKED else True

    def __str__(self) -> str:
        sides = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{self.rate:,} Hz, {sides}"


def _examined_wav(data: bytes) -> Sound:
    form, place = form_of(data), _chunk(data, b"data")
    if form is None or place is None or len(data) <= place + 8:
        return Sound(fault=f"is a WAV without {'a format' if form is None else 'a sound'}: {_SAVE}")
    if form.tag not in (_PCM, _FLOAT, *_LAWS, *_PACKED, _MP3):
        codec = _NOT_PLAYED.get(form.tag, f"the format 0x{form.tag:04X}")
        return Sound(fault=f"is a WAV of {codec}, and not of PCM: {_SAVE}")
    if not form.is_plausible:
        return Sound(
            fault=f"has a header that cannot be true ({form}, {form.bits} bits, {form.frame} bytes a sample, "
            f"{form.bytes_a_second:,} bytes a second): {_SAVE}"
        )
    start, (size,) = place + 8, unpack_from("<I", data, place + 4)
    there = len(data) - start
    if form.tag == _MP3:
        return _examined_mp3(data[start:]) or Sound(fault="has no sound")
    if size in _UNKNOWN_SIZES or data[:4] == b"RF64":
        return Sound(there / form.bytes_a_second)
    if not size:
        return Sound(fault="has no sound")
    is_followed = data[start + size + size % 2 :][:4].strip().isalnum()  # by the next chunk
    says, has = size / form.bytes_a_second, (size if is_followed else there) / form.bytes_a_second
    warnings = tuple[str, ...]()
    if abs(says - has) > max(0.1, _DIFFERS * min(says, has)):
        warnings = (
            f"says that it has {says:.1f} s, and has {has:.1f} s: it was cut or written wrongly; save it again",
        )
    return Sound(min(says, has), warnings=warnings)


def form_of(data: bytes) -> _Form | None:
    """The format of a WAV by its beginning; None if it has none."""
    at = _chunk(data, b"fmt ")
    if at is None or len(data) < at + 24:
        return None
    form = _Form(*unpack_from("<HHIIHH", data, at + 8))
    if form.tag == _EXTENSIBLE and len(data) >= at + 34:
        return form._replace(tag=unpack_from("<H", data, at + 32)[0])
    if form.tag in _PACKED and len(data) >= at + 28:  # programs disagree on its bytes a second
        samples = max(unpack_from("<H", data, at + 26)[0], 1)  # of a frame
        return form._replace(bytes_a_second=form.rate * form.frame // samples)
    return form


def _chunk(data: bytes, name: bytes) -> int | None:
    """Where a chunk of a WAV begins, with its name and size; None if it has none."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == name:
            return at
        (size,) = unpack_from("<I", data, at + 4)
        at += 8 + size + size % 2
    return None


# -- MP3 --------------------------------------------------------------------------------------------------------------

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Samples a second by version (3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5) and index (ISO 11172-3, 13818-3)."""
_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits a second of layer 3, of MPEG 1 and of the others."""
_FEW = 2
"""How many frames must follow each other before bytes are taken for MP3."""
_HEADER = re.compile(rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](....)|VBRI", re.DOTALL)
"""In a frame that is a header: the number of frames, if it has that."""
_MOST_BETWEEN = 65_536
"""The most bytes that are no frames, beside tags, before, between and after them."""


def _examined_mp3(data: bytes) -> Sound | None:
    """What the frames of an MP3 say, without its tags; None if it has none."""
    count, seconds, rates, stated = 0, 0.0, list[int](), 0
    at, run, between = 0, 0, 0
    while at + 4 <= len(data) and between < _MOST_BETWEEN:
        if data[at : at + 3] == b"ID3":
            at += _tag_length(data[at : at + 10])
        length, rate, samples = _frame(data, at) or (0, 0, 0)
        follows = at + length >= len(data) - 3 or _frame(data, at + length) is not None
        if not length or not (follows or run >= _FEW):
            at, run, between = at + 1, 0, between + 1
            continue
        if (header := _HEADER.search(data, at + 4, at + 64)) is not None:
            stated = stated or int.from_bytes(header[1] or b"")
        else:
            seconds += samples / rate
        rates += [rate] if rate not in rates else []
        count, at, run = count + 1, at + length, run + 1
    if not count:
        return None
    warnings = tuple[str, ...]()
    if len(rates) > 1:
        parts = " and ".join(f"{rate:,} Hz" for rate in rates)
        warnings = (f"has parts of {parts}: players stop at the second, or change speed; save it at one rate",)
    elif stated > count * (1 + _DIFFERS):
        warnings = (f"says that it has {stated:,} frames, and has {count:,}: it was cut; upload it again",)
    return Sound(seconds, warnings=warnings)


def _tag_length(tag: bytes) -> int:
    """The bytes of an ID3v2 tag with titles and pictures, by its first ten."""
    size = 0
    for byte in tag[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _frame(data: bytes, at: int) -> tuple[int, int, int] | None:
    """The bytes, rate and samples of the frame of layer 3 at a place; None if there is none."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, kbits = data[at + 1] >> 3 & 3, data[at + 2] >> 4
    index, padding = data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version == 1 or index == 3 or kbits in (0, 15):
        return None
    rate = _RATES[version][index]
    samples = 1152 if version == 3 else 576
    bits = 1000 * _KBITS[3 if version == 3 else 2][kbits]
    return samples // 8 * bits // rate + padding, rate, samples
