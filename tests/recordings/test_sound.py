"""What recordings are, by their headers: those written here, and in the slow set those of real programs."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import wave
from pathlib import Path

import pytest

from voiceflow_worker.recordings import examined

SECONDS = 2.0


def written(*, rate: int = 8000, channels: int = 1) -> bytes:
    """A WAV of two seconds."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(range(1, 201)) * (int(rate * SECONDS) * 2 * channels // 200))
    return out.getvalue()


def with_form(**fields: int) -> bytes:
    """A WAV whose header has other values: tag, channels, rate, bytes_a_second, frame, bits."""
    data, names = written(), ("tag", "channels", "rate", "bytes_a_second", "frame", "bits")
    known = dict(zip(names, struct.unpack_from("<HHIIHH", data, 20), strict=True))
    return data[:20] + struct.pack("<HHIIHH", *{**known, **fields}.values()) + data[36:]


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
def test_the_length_of_a_recording_is_read(data: bytes) -> None:
    sound = examined(data)
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
        (written()[:30], "without a format"),
        (written()[:44], "without a sound"),
        (with_sizes(written(), 0), "has no sound"),
        (with_form(rate=1, bytes_a_second=2), "has a header that cannot be true (1 Hz, mono"),
        (with_form(rate=4_000_000_000), "cannot be true"),
        (with_form(channels=0), "cannot be true"),
        (with_form(frame=0), "cannot be true"),
        (with_form(bytes_a_second=1), "cannot be true"),
        (with_form(tag=0x11, bytes_a_second=1), "cannot be true"),
        (with_form(tag=0x28F), "is a WAV of G.722"),
        (with_form(tag=0x45, bits=4), "is a WAV of G.726"),
        (with_form(tag=0x161), "is a WAV of the format 0x0161"),
        (b"RIFX" + written()[4:], "is a WAV of big-endian numbers"),
    ],
)
def test_what_a_phone_does_not_play_is_a_fault(data: bytes, said: str) -> None:
    assert said in (examined(data).fault or "")


@pytest.mark.parametrize("share", [0.5, 3.0])
def test_a_header_that_says_another_length_is_a_warning(share: float) -> None:
    data = written()
    (warning,) = examined(with_sizes(data, int((len(data) - 44) * share))).warnings
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
    "mp2": ((*FFMPEG, "-i", "speech.wav", "-c:a", "mp2", "-f", "mp2", "mp2"), "neither WAV nor MP3"),
    "gsm": (("sox", "speech.wav", "-r", "8000", "-e", "gsm-full-rate", "-t", "wav", "gsm"), "is a WAV of GSM 6.10"),
    "g722": ((*FFMPEG, "-i", "speech.wav", "-ar", "16000", "-c:a", "g722", "-f", "wav", "g722"), "a WAV of G.722"),
    "g726": ((*FFMPEG, "-i", "speech.wav", "-ar", "8000", "-c:a", "g726", "-f", "wav", "g726"), "a WAV of G.726"),
}  # fmt: skip
DIFFERENT = {
    "cat mp3_22050.mp3 mp3_44100.mp3": "has parts of 22,050 Hz and 44,100 Hz",
    "head -c 3000 vbr.mp3": "it was cut",
    "head -c 20000 speech.wav": "it was cut",
}


@pytest.mark.slow
def test_files_of_real_programs_are_read_as_they_are(tmp_path: Path) -> None:
    for program in ("espeak-ng", "ffmpeg", "lame", "sox"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True)

    lengths = dict[str, float]()
    for name, commands in MADE.items():
        for command in commands:
            run(*command)
        sound = examined((tmp_path / name).read_bytes())
        assert (name, sound.fault, sound.warnings) == (name, None, ())
        lengths[name] = sound.seconds
    spoken = lengths.pop("speech.wav")
    assert lengths.pop("joined bare.mp3") == pytest.approx(2 * spoken, abs=0.3)
    assert lengths == {name: pytest.approx(spoken, abs=0.3) for name in lengths}
    for name, (command, said) in WRONG.items():
        run(*command)
        assert said in (examined((tmp_path / name).read_bytes()).fault or ""), name
    for line, said in DIFFERENT.items():
        run("sh", "-c", f"{line} > different")
        sound = examined((tmp_path / "different").read_bytes())
        assert sound.fault is None
        assert said in " ".join(sound.warnings), line
