#!/bin/sh
# babel 2.19.0: a date that the country's order does not allow is read in another order.
# Guess: parse_date with the locale of Britain refuses 12/31/2030, and that of the United States 31/12/2030.
# What happens: where the month would be above twelve, day and month change places, without a word. So in one column
# 04/03/2030 is the fourth of March and 12/31/2030, of the same list, the last of December.
# Seen: en_GB 4 March and 31 December; en_US 3 April and, for 31/12/2030, 31 December.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check babel==2.19.0
"$dir/bin/python" - <<'END'
from babel.dates import parse_date

asked = (("04/03/2030", "en_GB"), ("12/31/2030", "en_GB"), ("04/03/2030", "en_US"), ("31/12/2030", "en_US"))
seen = [f"{locale}: {parse_date(text, locale=locale)}" for text, locale in asked]
print(seen)
assert seen == ["en_GB: 2030-03-04", "en_GB: 2030-12-31", "en_US: 2030-04-03", "en_US: 2030-12-31"]
END
