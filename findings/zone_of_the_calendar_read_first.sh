#!/bin/sh
# icalendar 7.3.2: a calendar's own clock is that of another calendar, if that was read before and has one of this name.
# Guess: a time whose TZID is defined by a VTIMEZONE goes by the definition in its own file (RFC 5545, 3.2.19).
# What happens: a process keeps the first definition of each name, and reads all later calendars by it, without a word.
# A name that an office makes up, such as "Clinic", is a clock of its own in each office.
# Seen: 9:30 by "Clinic" as -06:00, in a file read first, is 9:30-06:00; by "Clinic" as +08:00, in one read next, it is
# 9:30-06:00 too, fourteen hours late. In a process of its own the second is 9:30+08:00.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check icalendar==7.3.2
cat >"$dir/read.py" <<'END'
import sys

from icalendar import Calendar

FILE = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//practice//visits
BEGIN:VTIMEZONE
TZID:Clinic
BEGIN:STANDARD
DTSTART:16010101T000000
TZOFFSETFROM:{0}
TZOFFSETTO:{0}
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1
DTSTAMP:20300101T000000Z
DTSTART;TZID=Clinic:20300131T093000
SUMMARY:Visit
END:VEVENT
END:VCALENDAR
"""
for offset in sys.argv[1:]:
    calendar = Calendar.from_ical(FILE.format(offset).replace("\n", "\r\n"))
    print(offset, calendar.walk("VEVENT")[0]["DTSTART"].dt.isoformat())
END
"$dir/bin/python" "$dir/read.py" -0600 +0800 >"$dir/both"
"$dir/bin/python" "$dir/read.py" +0800 >"$dir/alone"
cat "$dir/both" "$dir/alone"
[ "$(cat "$dir/both")" = "-0600 2030-01-31T09:30:00-06:00
+0800 2030-01-31T09:30:00-06:00" ]
[ "$(cat "$dir/alone")" = "+0800 2030-01-31T09:30:00+08:00" ]
