#!/bin/sh
# duckdb 2.0.1, pyarrow 26.0.1, polars 2.1.0: a UUID that DuckDB writes to Parquet is none in polars.
# Guess: Parquet has a type for UUIDs, which pyarrow reads as uuid.UUID, so polars gives a UUID or its text.
# What happens: polars gives 16 bytes. A person whose key is this column has another key than in a CSV of the same
# table.
# Seen: pyarrow UUID('550e8400-e29b-41d4-a716-446655440000'); polars Binary, 16 bytes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0
cd "$dir"
bin/python - <<'END'
import uuid

import duckdb
import polars
import pyarrow.parquet

key = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
duckdb.sql(f"COPY (SELECT '{key}'::UUID AS key) TO 'people.parquet'")
by_polars = polars.read_parquet("people.parquet")["key"]
seen = [pyarrow.parquet.read_table("people.parquet")["key"][0].as_py(), by_polars.dtype, by_polars[0]]
expected = [key, polars.Binary, key.bytes]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
