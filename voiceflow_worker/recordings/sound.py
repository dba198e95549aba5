"""What a phone hears of a recording: its bytes, decoded to one channel at 8 kHz, with what a person would not hear.

8x8 plays WAV and MP3 (callflows guide, playFile). What the bytes are is decided by their first ones, since names lie;
the sound by miniaudio, which decodes what is there. Other players differ where a file contradicts itself: there is a
warning for each such place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from struct import unpack_from
from typing import Any

from voiceflow_worker.errors import require_extra

MOST_BYTES = 5 * 1024 * 1024
"""The size from which on 8x8 plays no file (5120 KB)."""
PHONE_RATE = 8000
"""The samples a second of a phone."""
_AUDIBLE = 100
"""The largest sample, of 32,767, below which nobody hears anything: -50 dB."""
_CANCELLED = 0.05
"""The share of a side's largest sample that is left in one channel if left and right are opposite."""
_DIFFERS = 0.1
"""The part of the length by which a header may differ from the sound, beside a tenth of a second."""

_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "an MPEG-4 file, such as .m4a"),
    (0, b"OggS", "an Ogg file (Vorbis or Opus)"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"FORM", "an AIFF file"),
    (0, b".snd", "a Sun audio file (.au)"),
    (0, b"caff", "a Core Audio file (.caf)"),
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
    """What was heard: its length, why a phone plays nothing of it (`fault`), and what may differ (`warnings`)."""

    seconds: float = 0.0
    fault: str | None = None
    warnings: tuple[str, ...] = ()


def heard(data: bytes) -> Sound:
    """What a phone hears of a file. Raises MissingExtraError without the extra `audio`."""
    if not data:
        return Sound(fault="is empty")
    if (other := _other_kind(data)) is not None:
        remedy = "give the address that downloads the file itself" if other in _PAGES else "convert it"
        return Sound(fault=f"is {other}, and 8x8 plays WAV and MP3, whatever its name is: {remedy}")
    is_wav = data[:4] in (b"RIFF", b"RF64", b"RIFX") and data[8:12] == b"WAVE"
    frames = None if is_wav else Mp3Frames.of(data)
    if frames is not None and not frames.count:
        return Sound(fault="is neither WAV nor MP3 by its bytes: save it as one of them")
    if frames is not None and frames.layers != frozenset({3}):
        return Sound(fault="is MPEG audio of another layer than MP3: convert it")
    try:
        mono, sides = _decoded(data, channels=1), _decoded(data, channels=2)
    except _sound_library().DecodeError:
        return Sound(fault="cannot be decoded: save it as WAV (PCM, 8 or 16 kHz, mono) or MP3")
    seconds = len(mono) / PHONE_RATE
    loudest, loudest_side = (max(max(each, default=0), -min(each, default=0)) for each in (mono, sides))
    if loudest_side < _AUDIBLE:
        return Sound(seconds, "is silent" if mono else "has no sound")
    if loudest < _CANCELLED * loudest_side:
        return Sound(seconds, "is silent on a phone: left and right cancel each other out; save it as mono")
    found = frames.differences(seconds) if frames is not None else _wav_differences(data)
    return Sound(seconds, warnings=tuple(found))


def quality_of(data: bytes) -> str:
    """The rate and channels of the beginning of a WAV, to say why it is large; empty if it has none."""
    form = _chunk(data, b"fmt ")
    if form is None or len(data) < form + 24:
        return ""
    channels, rate = unpack_from("<HI", data, form + 10)
    return f"{rate:,} Hz, {'mono' if channels == 1 else 'stereo' if channels == 2 else f'{channels} channels'}"


def _sound_library() -> Any:
    require_extra("audio", "miniaudio", what="recordings need")
    return import_module("miniaudio")


def _decoded(data: bytes, *, channels: int) -> Any:
    return _sound_library().decode(data, nchannels=channels, sample_rate=PHONE_RATE).samples


def _other_kind(data: bytes) -> str | None:
    data = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")  # a mark and blanks before a page
    if data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xF6 == 0xF0:
        return "an AAC file"
    return next((kind for at, start, kind in _OTHERS if data[at : at + len(start)] == start), None)


# -- WAV --------------------------------------------------------------------------------------------------------------


def _chunk(data: bytes, name: bytes) -> int | None:
    """Where a chunk of a WAV begins, with its name and size; None if it has none."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == name:
            return at
        (size,) = unpack_from("<I", data, at + 4)
        at += 8 + size + size % 2
    return None


_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF)
"""The sizes that programs write which do not know the length when they begin: ffmpeg, sox and others."""


def _wav_differences(data: bytes) -> Iterator[str]:
    """What players hear differently: a WAV that says another length than its bytes have."""
    form, sound = _chunk(data, b"fmt "), _chunk(data, b"data")
    if form is None or sound is None or data[:4] != b"RIFF":
        return
    (rate,) = unpack_from("<I", data, form + 16)  # bytes a second
    (size,) = unpack_from("<I", data, sound + 4)
    if not rate or size in _UNKNOWN_SIZES:
        return
    after = sound + 8 + size + size % 2
    is_followed = data[after : after + 4].strip().isalnum()  # by the next chunk
    says, has = size / rate, (size if is_followed else len(data) - sound - 8) / rate
    if abs(says - has) > max(0.1, _DIFFERS * min(says, has)):
        yield f"says that it has {says:.1f} s, and has {has:.1f} s: it was cut or written wrongly; save it again"


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


@dataclass(slots=True)
class Mp3Frames:
    """The frames of an MP3, one after the other: how many, their rates and layers, and what its headers say."""

    count: int = 0
    seconds: float = 0.0
    rates: tuple[int, ...] = ()
    layers: frozenset[int] = frozenset()
    headers: int = 0
    """How many frames are a header (Xing, Info or VBRI), which holds the number of the frames that follow."""
    stated: int | None = None
    """The number of frames in the first header."""

    @classmethod
    def of(cls, data: bytes) -> Mp3Frames:
        """The frames of a file, after its tag; none if it is no MPEG audio."""
        found = cls()
        at, run, end = _after_tag(data), 0, len(data)
        while at + 4 <= end:
            frame = _frame(data, at)
            if frame is None:
                at, run = at + 1, 0
                if not found.count and at > 65_536 + _after_tag(data):
                    break
                continue
            length, rate, layer, samples = frame
            follows = at + length >= end - 3 or _frame(data, at + length) is not None
            if not follows and run < _FEW:
                at += 1
                continue
            found._add(data[at : at + length], rate, layer, samples)
            at, run = at + length, run + 1
        return found

    def _add(self, frame: bytes, rate: int, layer: int, samples: int) -> None:
        self.count += 1
        self.layers |= {layer}
        if rate not in self.rates:
            self.rates += (rate,)
        for name in (b"Xing", b"Info", b"VBRI"):
            place = frame.find(name, 4, 64)
            if place > 0:
                self.headers += 1
                if self.stated is None and name != b"VBRI" and len(frame) >= place + 12 and frame[place + 7] & 1:
                    (self.stated,) = unpack_from(">I", frame, place + 8)
                return
        self.seconds += samples / rate

    def differences(self, seconds: float) -> Iterator[str]:
        """What players hear differently, if a decoder hears so many seconds."""
        if len(self.rates) > 1:
            rates = " and ".join(f"{rate:,} Hz" for rate in self.rates)
            yield f"has parts of {rates}: players stop at the second, or change speed; save it at one rate"
        elif self.headers > 1:
            yield f"is made of {self.headers} files: players stop after the first, {seconds:.1f} s; join them again"
        elif self.stated is not None and self.stated > self.count * (1 + _DIFFERS):
            yield f"says that it has {self.stated:,} frames, and has {self.count:,}: it was cut; upload it again"


def _after_tag(data: bytes) -> int:
    """Where the sound begins, after an ID3v2 tag with titles and pictures."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _frame(data: bytes, at: int) -> tuple[int, int, int, int] | None:
    """The bytes, rate, layer and samples of the frame at a place; None if there is none. Other layers have length 1."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    kbits, index, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version == 1 or layer == 4 or index == 3 or kbits in (0, 15):
        return None
    rate = _RATES[version][index]
    if layer != 3:
        return _other_layer(version, layer, kbits, rate, padding)
    samples = 1152 if version == 3 else 576
    bits = 1000 * _KBITS[3 if version == 3 else 2][kbits]
    return samples // 8 * bits // rate + padding, rate, layer, samples


_KBITS_OF_LAYER_2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)


def _other_layer(version: int, layer: int, kbits: int, rate: int, padding: int) -> tuple[int, int, int, int] | None:
    if layer != 2:
        return None
    bits = 1000 * (_KBITS_OF_LAYER_2 if version == 3 else _KBITS[2])[kbits]
    return 144 * bits // rate + padding, rate, layer, 1152
