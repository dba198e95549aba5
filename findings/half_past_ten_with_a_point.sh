#!/bin/sh
# python-dateutil 2.9.0.post0: a time with a point loses its minutes, or is a day; one of four digits is a year.
# Guess: a cell of times that says 2.30 pm, 10.30 or 0830 is read as that time, as 2:30 pm and 10:30 are, or refused.
# What happens: the parser takes the point for that of a date: 2.30 pm is two o'clock, without a word, and 10.30 is
# midnight of the 10th. The four digits are a year, on the same day of it.
# Seen: of 29 November 2026: 2.30 pm 14:00; 2:30 pm 14:30; 10.30 the 10th at 00:00; 0830 29 November 830 at 00:00.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check python-dateutil==2.9.0.post0
"$dir/bin/python" - <<'END'
from datetime import datetime

from dateutil.parser import parse

day = datetime(2026, 11, 29)
seen = {text: str(parse(text, default=day)) for text in ("2:30 pm", "2.30 pm", "10:30", "10.30", "0830")}
print(seen)
assert seen == {
    "2:30 pm": "2026-11-29 14:30:00",
    "2.30 pm": "2026-11-29 14:00:00",
    "10:30": "2026-11-29 10:30:00",
    "10.30": "2026-11-10 00:00:00",
    "0830": "0830-11-29 00:00:00",
}
END
