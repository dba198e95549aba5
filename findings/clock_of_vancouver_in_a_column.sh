#!/bin/sh
# polars 2.1.0, duckdb 2.0.1, tzdata 2026.6: a column of times has the clock of Vancouver as it was before 2026.
# Guess: polars converts a column by the same rules as DuckDB and as Python with the newest tzdata.
# What happens: polars brings rules of its own. In January 2027 it is an hour behind the others in zones of Canada
# whose clocks stay on summer time now, and an hour ahead of them in Morocco; an installed tzdata changes nothing.
# Seen: 12:00 UTC on 2027-01-15 in Vancouver, Edmonton and Casablanca: zoneinfo and DuckDB 5, 6, 12; polars 4, 5, 13.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 duckdb==2.0.1 tzdata==2026.6
cd "$dir"
bin/python - <<'END'
import zoneinfo
from datetime import datetime, timezone

import duckdb
import polars

zoneinfo.reset_tzpath([])  # the package, whatever the system has
AT = datetime(2027, 1, 15, 12)
ZONES = ["America/Vancouver", "America/Edmonton", "Africa/Casablanca"]

column = polars.Series([AT]).dt.replace_time_zone("UTC")
query = "SELECT hour(timezone(?, TIMESTAMPTZ '2027-01-15 12:00:00+00'))"
seen = {
    "zoneinfo": [AT.replace(tzinfo=timezone.utc).astimezone(zoneinfo.ZoneInfo(zone)).hour for zone in ZONES],
    "duckdb": [duckdb.execute(query, [zone]).fetchone()[0] for zone in ZONES],
    "polars": [column.dt.convert_time_zone(zone).dt.hour()[0] for zone in ZONES],
}
expected = {"zoneinfo": [5, 6, 12], "duckdb": [5, 6, 12], "polars": [4, 5, 13]}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
