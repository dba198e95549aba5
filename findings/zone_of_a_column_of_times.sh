#!/bin/sh
# pyarrow 26.0.1, duckdb 2.0.1, polars 2.1.0: the zone of a column of times is lost on its way through DuckDB.
# Guess: a Parquet file keeps the zone that pyarrow gives its column, whoever copies the file.
# What happens: in polars' copy the zone is Asia/Singapore. In DuckDB's it is UTC, even if the TimeZone of DuckDB is
# Asia/Singapore: the instant is the same, but 18:00 reads as 10:00.
# Seen: pyarrow Asia/Singapore, 18; polars Asia/Singapore, 18; DuckDB UTC, 10.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0 tzdata==2026.6
cd "$dir"
bin/python - <<'END'
from datetime import datetime
from zoneinfo import ZoneInfo

import duckdb
import polars
import pyarrow
import pyarrow.parquet

at = datetime(2027, 1, 15, 18, tzinfo=ZoneInfo("Asia/Singapore"))
table = pyarrow.table({"due": pyarrow.array([at], pyarrow.timestamp("us", "Asia/Singapore"))})
pyarrow.parquet.write_table(table, "pyarrow.parquet")
polars.read_parquet("pyarrow.parquet").write_parquet("polars.parquet")
duckdb.sql("SET TimeZone = 'Asia/Singapore'")
duckdb.sql("COPY (FROM 'pyarrow.parquet') TO 'duckdb.parquet'")
seen = {}
for name in ("pyarrow", "polars", "duckdb"):
    column = pyarrow.parquet.read_table(f"{name}.parquet")["due"]
    seen[name] = (column.type.tz, column[0].as_py().hour)
expected = {"pyarrow": ("Asia/Singapore", 18), "polars": ("Asia/Singapore", 18), "duckdb": ("UTC", 10)}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
