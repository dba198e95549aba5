#!/bin/sh
# recurring-ical-events 3.8.2, icalendar 7.3.2: a visit that was cancelled in a calendar is still among its visits.
# Guess: the visits of a week, as the library gives them, are those that take place.
# What happens: one visit of a weekly series that was cancelled, as calendars write it (RECURRENCE-ID, STATUS:CANCELLED),
# is given like the others; so is a whole event that was cancelled. Only EXDATE takes a visit out.
# Seen: 3, 10 (cancelled), 17 and 24 April 2030 at 09:00; with EXDATE for the 17th, the three others.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check recurring-ical-events==3.8.2 icalendar==7.3.2
cd "$dir"
bin/python - <<'END'
from datetime import date

import icalendar
import recurring_ical_events

HEAD = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//clinic//EN\n"
VISIT = "BEGIN:VEVENT\nUID:{uid}\nDTSTAMP:20300101T000000Z\nDTSTART:{at}\nSUMMARY:Ana Lim\n{more}END:VEVENT\n"
WEEKLY = "RRULE:FREQ=WEEKLY;COUNT=4\n"
CANCELLED = "STATUS:CANCELLED\n"


def visits(*events: str) -> list[tuple[str, str]]:
    calendar = icalendar.Calendar.from_ical(HEAD + "".join(events) + "END:VCALENDAR\n")
    found = recurring_ical_events.of(calendar).between(date(2030, 4, 1), date(2030, 5, 1))
    return [(f"{each['DTSTART'].dt:%d}", str(each.get("STATUS", ""))) for each in found]


series = VISIT.format(uid="1", at="20300403T090000Z", more=WEEKLY)
one = VISIT.format(uid="1", at="20300410T090000Z", more=f"RECURRENCE-ID:20300410T090000Z\n{CANCELLED}")
seen = {
    "one of a series": visits(series, one),
    "a whole event": visits(VISIT.format(uid="2", at="20300404T090000Z", more=CANCELLED)),
    "EXDATE": visits(series.replace(WEEKLY, f"{WEEKLY}EXDATE:20300417T090000Z\n"), one),
}
expected = {
    "one of a series": [("03", ""), ("10", "CANCELLED"), ("17", ""), ("24", "")],
    "a whole event": [("04", "CANCELLED")],
    "EXDATE": [("03", ""), ("10", "CANCELLED"), ("24", "")],
}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
