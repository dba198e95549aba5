"""What a phone hears: of files that are written here, and in the slow set of those that real programs write."""

from __future__ import annotations

import io
import math
import shutil
import struct
import subprocess
import wave
from array import array
from pathlib import Path

import pytest

from voiceflow_worker.recordings import heard

SECONDS = 2.0


def written(*, rate: int = 8000, channels: int = 1, opposite: bool = False, loud: float = 0.5) -> bytes:
    """A WAV of two seconds of a tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        samples = [int(32767 * loud * math.sin(math.tau * 440 * at / rate)) for at in range(int(rate * SECONDS))]
        sides = [[-each for each in samples] if opposite and side else samples for side in range(channels)]
        sound.writeframes(array("h", [each for frame in zip(*sides, strict=True) for each in frame]).tobytes())
    return out.getvalue()


def with_sizes(data: bytes, size: int) -> bytes:
    """The same, with another size of its sound in the header."""
    place = data.index(b"data") + 4
    return data[:place] + struct.pack("<I", size) + data[place + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        written(),
        written(rate=44100, channels=2),
        written(rate=16000, channels=2),
        *(with_sizes(written(), size) for size in (0xFFFFFFFF, 0x7FFFF000)),
    ],
    ids=["phone", "cd", "stereo", "streamed", "streamed by sox"],
)
def test_a_sound_is_heard(data: bytes) -> None:
    sound = heard(data)
    assert (sound.fault, sound.warnings) == (None, ())
    assert sound.seconds == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (b'{"error": "expired"}', "is a JSON document"),
        (b"\0\0\0 ftypM4A " + bytes(100), "is an MPEG-4 file, such as .m4a"),
        (b"OggS" + bytes(100), "is an Ogg file (Vorbis or Opus)"),
        (b"fLaC" + bytes(100), "is a FLAC file"),
        (b"\xff\xf1" + bytes(100), "is an AAC file"),
        (bytes(range(256)) * 20, "is neither WAV nor MP3"),
        (written()[:30], "cannot be decoded"),
        (written(loud=0.0), "is silent"),
        (written(loud=0.002), "is silent"),
        (written(channels=2, opposite=True), "left and right cancel each other out"),
        (with_sizes(written(), 0), "has no sound"),
    ],
)
def test_what_a_phone_does_not_play_is_a_fault(data: bytes, said: str) -> None:
    assert said in (heard(data).fault or "")


@pytest.mark.parametrize("share", [0.5, 3.0])
def test_a_header_that_says_another_length_is_a_warning(share: float) -> None:
    data = written()
    (warning,) = heard(with_sizes(data, int((len(data) - 44) * share))).warnings
    assert f"says that it has {SECONDS * share:.1f} s, and has {SECONDS:.1f} s" in warning


FFMPEG = ("ffmpeg", "-hide_banner", "-loglevel", "error", "-y")
MADE: dict[str, list[tuple[str, ...]]] = {
    "speech.wav": [("espeak-ng", "-w", "speech.wav", "Your order is ready. Please come to the shop on Tuesday.")],
    **{
        f"{codec}.wav": [(*FFMPEG, "-i", "speech.wav", "-c:a", codec, *rate, f"{codec}.wav")]
        for codec, rate in {
            "pcm_u8": (), "pcm_s24le": ("-ar", "16000"), "pcm_s32le": (), "pcm_f32le": (), "pcm_f64le": (),
            "pcm_alaw": ("-ar", "8000"), "pcm_mulaw": ("-ar", "8000"), "adpcm_ima_wav": (), "adpcm_ms": (),
            "libmp3lame": (),
        }.items()
    },
    "rf64.wav": [(*FFMPEG, "-i", "speech.wav", "-rf64", "always", "rf64.wav")],
    "six.wav": [(*FFMPEG, "-i", "speech.wav", "-ac", "6", "six.wav")],
    "extensible.wav": [("sox", "speech.wav", "-b", "24", "-r", "44100", "extensible.wav")],
    "piped.wav": [("sh", "-c", "ffmpeg -loglevel error -i speech.wav -f wav - > piped.wav")],
    "sox.wav": [("sh", "-c", "sox speech.wav -t wav - > sox.wav")],
    **{
        f"mp3_{rate}.mp3": [(*FFMPEG, "-i", "speech.wav", "-ar", str(rate), "-b:a", "32k", f"mp3_{rate}.mp3")]
        for rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
    },
    "vbr.mp3": [("lame", "--quiet", "-V", "4", "speech.wav", "vbr.mp3")],
    "bare.mp3": [("lame", "--quiet", "-V", "4", "-t", "speech.wav", "bare.mp3")],
    "cover.mp3": [
        (*FFMPEG, "-f", "lavfi", "-i", "color=red:s=600x600", "-frames:v", "1", "cover.png"),
        (*FFMPEG, "-i", "vbr.mp3", "-i", "cover.png", "-map", "0", "-map", "1", "-c", "copy", "cover.mp3"),
    ],
    "joined bare.mp3": [("sh", "-c", "cat bare.mp3 bare.mp3 > 'joined bare.mp3'")],
}  # fmt: skip
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "m4a": ((*FFMPEG, "-i", "speech.wav", "-c:a", "aac", "-f", "ipod", "m4a"), "an MPEG-4 file"),
    "aac": ((*FFMPEG, "-i", "speech.wav", "-c:a", "aac", "-f", "adts", "aac"), "an AAC file"),
    "opus": ((*FFMPEG, "-i", "speech.wav", "-c:a", "libopus", "-f", "ogg", "opus"), "an Ogg file"),
    "flac": ((*FFMPEG, "-i", "speech.wav", "-f", "flac", "flac"), "a FLAC file"),
    "aiff": ((*FFMPEG, "-i", "speech.wav", "-f", "aiff", "aiff"), "an AIFF file"),
    "caf": ((*FFMPEG, "-i", "speech.wav", "-f", "caf", "caf"), "a Core Audio file"),
    "au": ((*FFMPEG, "-i", "speech.wav", "-f", "au", "au"), "a Sun audio file"),
    "mp2": ((*FFMPEG, "-i", "speech.wav", "-c:a", "mp2", "-f", "mp2", "mp2"), "another layer than MP3"),
    "gsm": (("sox", "speech.wav", "-r", "8000", "-e", "gsm-full-rate", "-t", "wav", "gsm"), "cannot be decoded"),
    "silent": ((*FFMPEG, "-f", "lavfi", "-i", "anullsrc=r=16000", "-t", "3", "-f", "mp3", "silent"), "is silent"),
    "opposite": (
        (*FFMPEG, "-i", "speech.wav", "-af", "pan=stereo|c0=c0|c1=-1*c0", "-b:a", "64k", "-f", "mp3", "opposite"),
        "cancel each other out",
    ),
}  # fmt: skip
DIFFERENT = {
    "cat mp3_22050.mp3 mp3_22050.mp3": "is made of 2 files",
    "cat mp3_22050.mp3 mp3_44100.mp3": "has parts of 22,050 Hz and 44,100 Hz",
    "head -c 3000 vbr.mp3": "it was cut",
    "head -c 20000 speech.wav": "it was cut",
}


@pytest.mark.slow
def test_files_of_real_programs_are_heard_as_they_are(tmp_path: Path) -> None:
    for program in ("espeak-ng", "ffmpeg", "lame", "sox"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True)

    lengths = dict[str, float]()
    for name, commands in MADE.items():
        for command in commands:
            run(*command)
        sound = heard((tmp_path / name).read_bytes())
        assert (name, sound.fault, sound.warnings) == (name, None, ())
        lengths[name] = sound.seconds
    spoken = lengths.pop("speech.wav")
    assert lengths.pop("joined bare.mp3") == pytest.approx(2 * spoken, abs=0.3)
    assert lengths == {name: pytest.approx(spoken, abs=0.15) for name in lengths}
    for name, (command, said) in WRONG.items():
        run(*command)
        assert said in (heard((tmp_path / name).read_bytes()).fault or ""), name
    for line, said in DIFFERENT.items():
        run("sh", "-c", f"{line} > different")
        sound = heard((tmp_path / "different").read_bytes())
        assert sound.fault is None
        assert said in " ".join(sound.warnings), line
