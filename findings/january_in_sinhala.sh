#!/bin/sh
# babel 2.19.0: in Sinhala, a date of the Gregorian calendar gets the name of a lunar month.
# Guess: 15 January is written with the Sinhala word for January, as babel 2.18.0 writes it.
# What happens: January is Duruthu and May is Vesak, the names of the months of the full moons. Who hears an
# appointment so takes it for another day.
# Seen: Duruthu and Vesak, in Sinhala letters.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check babel==2.19.0
cd "$dir"
bin/python - <<'END'
from datetime import date

from babel.dates import format_date

seen = [format_date(date(2027, month, 15), "MMMM", locale="si") for month in (1, 5)]
duruthu, vesak = "\u0daf\u0dd4\u0dbb\u0dd4\u0dad\u0dd4", "\u0dc0\u0dd9\u0dc3\u0d9a\u0dca"
expected = [duruthu, vesak]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
