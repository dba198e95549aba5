#!/bin/sh
# duckdb 2.0.1, pandas 3.1.1, polars 2.1.0, pendulum 3.3.0: a series of months from the 31st stays on the 28th.
# Guess: after February a monthly series from 31 January is at the end of the month again: 31 March.
# What happens: DuckDB and pandas count each month from the last one, so from February on it is the 28th for good.
# polars and pendulum count from the first.
# Seen: from 2027-01-31, the days of four months: DuckDB and pandas 31, 28, 28, 28; polars and pendulum 31, 28, 31, 30.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 pandas==3.1.1 polars==2.1.0 pendulum==3.3.0 tzdata==2026.6
cd "$dir"
bin/python - <<'END'
from datetime import datetime

import duckdb
import pandas
import pendulum
import polars

START, END = datetime(2027, 1, 31), datetime(2027, 4, 30)

series = "SELECT unnest(generate_series(TIMESTAMP '2027-01-31', TIMESTAMP '2027-04-30', INTERVAL 1 MONTH))"
interval = pendulum.interval(pendulum.instance(START), pendulum.instance(END))
times = {
    "duckdb": [row[0] for row in duckdb.execute(series).fetchall()],
    "pandas": pandas.date_range(START, END, freq=pandas.DateOffset(months=1)),
    "polars": polars.datetime_range(START, END, "1mo", eager=True),
    "pendulum": interval.range("months"),
}
seen = {name: [at.day for at in found] for name, found in times.items()}
drifts, keeps = [31, 28, 28, 28], [31, 28, 31, 30]
expected = {"duckdb": drifts, "pandas": drifts, "polars": keeps, "pendulum": keeps}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
