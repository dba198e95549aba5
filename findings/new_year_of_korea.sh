#!/bin/sh
# workalendar 17.0.0 with holidays 0.109 and korean-lunar-calendar 0.4.0: Korea's New Year is on the day of China's.
# Guess: the new moon of February 2027 is before midnight in Beijing and after it in Seoul, so New Year is 6 February in
# China and 7 February in Korea; each calendar of Korea's holidays has the 7th, and the day after it.
# What happens: workalendar has the 5th to the 7th, so the 5th, a working day, is a holiday, and the 8th, which is one, is
# none. It is the same in 2028, with 27 January.
# Seen: New Year's day: 2027-02-06 and 2028-01-26 in workalendar; 2027-02-07 and 2028-01-27 in holidays and by the
# calendar of Korea's astronomers.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check \
    workalendar==17.0.0 holidays==0.109 korean-lunar-calendar==0.4.0
cd "$dir"
bin/python -W ignore - <<'END'
import datetime

import holidays
from korean_lunar_calendar import KoreanLunarCalendar
from workalendar.asia import SouthKorea

seen = []
for year in (2027, 2028):
    moon = KoreanLunarCalendar()
    moon.setLunarDate(year, 1, 1, False)
    day = datetime.date.fromisoformat(moon.SolarIsoFormat())
    own = sorted(each for each, name in SouthKorea().holidays(year) if "New Year" in name and (each.month, each.day) > (1, 2))
    public = holidays.country_holidays("KR", years=year)
    seen.append([str(day), [str(each) for each in own], day + datetime.timedelta(1) in public])
expected = [
    ["2027-02-07", ["2027-02-05", "2027-02-06", "2027-02-07"], True],
    ["2028-01-27", ["2028-01-25", "2028-01-26", "2028-01-27"], True],
]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
