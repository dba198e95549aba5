#!/bin/sh
# mutagen 1.48.1 with soundfile 0.14.0 and tinytag 2.3.2: a prompt of ten seconds in a telephone codec has a
# thirtieth of a second.
# Guess: the length of a WAV is that of its sound, whatever its codec: GSM 6.10 (the wav49 of telephone systems) and the
# kinds of ADPCM as well as PCM and G.711.
# What happens: mutagen takes a block of a codec for one sample. PCM, A-law and u-law have a block for each sample, so
# they are right; in GSM 6.10 a block has 320 samples, in ADPCM 160 to 500. tinytag and soundfile are right with all.
# Seen: mutagen 0.03 s for GSM 6.10, 0.02 s for IMA and Microsoft ADPCM, 10 s for PCM, A-law and u-law.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check mutagen==1.48.1 tinytag==2.3.2 soundfile==0.14.0 numpy
cd "$dir"
bin/python - <<'END'
import numpy
import soundfile
from mutagen.wave import WAVE
from tinytag import TinyTag

rate = 8000
tone = 0.3 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(10 * rate) / rate)
seen = {}
for codec in ("PCM_16", "ULAW", "ALAW", "GSM610", "IMA_ADPCM", "MS_ADPCM"):
    soundfile.write("prompt.wav", tone, rate, subtype=codec)
    right = [soundfile.info("prompt.wav").duration, TinyTag.get("prompt.wav").duration]
    seen[codec] = [round(WAVE("prompt.wav").info.length, 2), *(round(each) for each in right)]
expected = dict.fromkeys(("PCM_16", "ULAW", "ALAW"), [10.0, 10, 10])
expected |= {"GSM610": [0.03, 10, 10], "IMA_ADPCM": [0.02, 10, 10], "MS_ADPCM": [0.02, 10, 10]}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
