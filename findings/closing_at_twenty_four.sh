#!/bin/sh
# duckdb 2.0.1, pyarrow 26.0.1, polars 2.1.0: the hour 24:00 of a Parquet file is midnight before, or nothing.
# Guess: a column of closing times in which DuckDB writes 24:00 is read as 24:00, or refused.
# What happens: DuckDB keeps 24:00 when it reads its file. pyarrow gives 00:00, so a day is closed before it opens;
# polars gives a missing value. Neither says so.
# Seen: DuckDB 24:00:00; pyarrow 00:00; polars None; 09:00 in the same file is 09:00 in both.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0
cd "$dir"
bin/python - <<'END'
from datetime import time

import duckdb
import polars
import pyarrow.parquet

duckdb.execute("COPY (SELECT TIME '09:00' AS opens, TIME '24:00:00' AS closes) TO 'hours.parquet' (FORMAT parquet)")
seen = [
    duckdb.execute("SELECT closes::VARCHAR FROM 'hours.parquet'").fetchone(),
    pyarrow.parquet.read_table("hours.parquet").to_pylist(),
    polars.read_parquet("hours.parquet").rows(),
]
expected = [("24:00:00",), [{"opens": time(9), "closes": time(0)}], [(time(9), None)]]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
