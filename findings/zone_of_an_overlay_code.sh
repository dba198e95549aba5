#!/bin/sh
# phonenumbers 9.0.43: two area codes of one place are in two time zones.
# Guess: 689 is an overlay of 407, Orlando in Florida, so its numbers have the clock of 407.
# What happens: 689 is in the zone of Chicago, one hour behind. It is the only zone, so nothing looks uncertain.
# Seen: 407 America/New_York, 689 America/Chicago.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check phonenumbers==9.0.43
cd "$dir"
bin/python - <<'END'
import phonenumbers
from phonenumbers import timezone

seen = {code: timezone.time_zones_for_number(phonenumbers.parse(f"+1{code}2001234")) for code in ("407", "689")}
expected = {"407": ("America/New_York",), "689": ("America/Chicago",)}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
