#!/bin/sh
# soundfile 0.14.0, tinytag 2.3.2 and Python's wave: a prompt of two seconds is three days long.
# Guess: a WAV whose sizes are 0xFFFFFFFF, because its writer could not go back in a stream, has the length of its
# samples.
# What happens: wave and tinytag believe the size, which is 74 hours at 8 kHz; soundfile counts the samples.
# Seen: wave 268435 seconds, tinytag 268435, soundfile 2.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 tinytag==2.3.2
cd "$dir"
bin/python - <<'END'
import struct
import wave

import soundfile
import tinytag

unknown, rate = 0xFFFFFFFF, 8000
with open("prompt.wav", "wb") as file:
    file.write(b"RIFF" + struct.pack("<I", unknown) + b"WAVEfmt ")
    file.write(struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16))
    file.write(b"data" + struct.pack("<I", unknown) + bytes(2 * 2 * rate))
with wave.open("prompt.wav") as opened:
    frames = opened.getnframes()
seconds = [frames / rate, tinytag.TinyTag.get("prompt.wav").duration, soundfile.info("prompt.wav").duration]
seen = [int(each) for each in seconds]
expected = [268435, 268435, 2]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
