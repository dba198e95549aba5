#!/bin/sh
# parsedatetime 2.6: "in half an hour" is in an hour, and "5 minutes to 3" is in five minutes.
# Guess: what a person says of a time to be called back is read as it is meant, or not read at all, and the flags say
# which.
# What happens: "an hour" is read within "half an hour" and "an hour and a half"; the rest is dropped, and the flags say
# that a time was found. "in 1.5 hours" and "in 30 minutes" are right; "half past 2" is not read.
# Seen: from 09:00, "in half an hour" 10:00, "in an hour and a half" 10:00, "5 minutes to 3" 09:05, each as a time.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check parsedatetime==2.6
cd "$dir"
bin/python - <<'END'
from datetime import datetime

from parsedatetime import Calendar

seen = {}
for said in (
    "in half an hour", "in an hour and a half", "5 minutes to 3", "in 1.5 hours", "in 30 minutes", "half past 2"
):
    at, found = Calendar().parseDT(said, datetime(2026, 12, 1, 9))
    seen[said] = f"{at:%H:%M}" if found == 2 else found
expected = {
    "in half an hour": "10:00", "in an hour and a half": "10:00", "5 minutes to 3": "09:05",
    "in 1.5 hours": "10:30", "in 30 minutes": "09:30", "half past 2": 0,
}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
