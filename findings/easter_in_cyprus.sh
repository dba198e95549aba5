#!/bin/sh
# workalendar 17.0.0 with holidays 0.109: Cyprus has its Easter five weeks too early.
# Guess: Easter is that of the Orthodox church in Cyprus as in Greece, so in 2027 Good Friday is 30 April.
# What happens: workalendar has 26 March for Cyprus and 30 April for Greece, so all days that go with Easter are wrong;
# holidays has 30 April for both. In 2028 the two Easters are on one day.
# Seen: Good Friday of 2027 in workalendar 2027-03-26 (Cyprus) and 2027-04-30 (Greece).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check workalendar==17.0.0 holidays==0.109
cd "$dir"
bin/python -W ignore - <<'END'
import datetime

import holidays
from workalendar.europe import Cyprus, Greece

seen = {
    "workalendar": [str(d) for c in (Cyprus, Greece) for d, name in c().holidays(2027) if name == "Good Friday"],
    "holidays": [datetime.date(2027, 4, 30) in holidays.country_holidays(c, years=2027) for c in ("CY", "GR")],
    "the Western one": datetime.date(2027, 3, 26) in holidays.country_holidays("CY", years=2027),
}
expected = {"workalendar": ["2027-03-26", "2027-04-30"], "holidays": [True, True], "the Western one": False}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
