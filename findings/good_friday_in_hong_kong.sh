#!/bin/sh
# holidays 0.109 with workalendar 17.0.0: whether Good Friday is a holiday in Hong Kong depends on the library.
# Guess: it is a general holiday, on which banks and schools are closed, so every calendar of public holidays has it.
# What happens: in holidays, the public ones are those that the law gives to all employees, which Good Friday is from
# 2028 on. In 2027 it is in the category "optional" alone. workalendar has it in both years.
# Seen: holidays: public in 2028 alone, optional in 2027 and 2028; workalendar: 2027 and 2028.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check holidays==0.109 workalendar==17.0.0
cd "$dir"
bin/python - <<'END'
from datetime import date

import holidays
from workalendar.asia import HongKong

days = [date(2027, 3, 26), date(2028, 4, 14)]
seen = {
    "public": [day in holidays.HK(years=day.year) for day in days],
    "optional": [day in holidays.HK(years=day.year, categories="optional") for day in days],
    "workalendar": [day in dict(HongKong().holidays(day.year)) for day in days],
}
expected = {"public": [False, True], "optional": [True, True], "workalendar": [True, True]}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
