#!/bin/sh
# pandas 3.1.1, pyarrow 26.0.1, polars 2.1.0 and DuckDB 2.0.1: a CSV of phone numbers loses its pluses or its zeros.
# Guess: pandas makes an integer of +6581234567; the younger readers keep what is not a plain number as a text.
# What happens: pandas drops the plus, and pyarrow too, which makes a number with a fraction of it. polars keeps the
# plus, and drops the zero of a national number. DuckDB keeps both.
# Seen: pandas 6581234567 and 812345678; pyarrow 6581234567.0 and 812345678; polars '+6581234567' and 812345678;
# DuckDB '+6581234567' and '0812345678'.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1
cd "$dir"
bin/python - <<'END'
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow.csv

Path("people.csv").write_text("abroad,home\n+6581234567,0812345678\n+6591234567,0312345678\n")
seen = {
    "pandas": pandas.read_csv("people.csv").values.tolist()[0],
    "pyarrow": list(pyarrow.csv.read_csv("people.csv").to_pylist()[0].values()),
    "polars": list(polars.read_csv("people.csv").row(0)),
    "duckdb": list(duckdb.sql("select * from 'people.csv'").fetchall()[0]),
}
expected = {
    "pandas": [6581234567, 812345678],
    "pyarrow": [6581234567.0, 812345678],
    "polars": ["+6581234567", 812345678],
    "duckdb": ["+6581234567", "0812345678"],
}
if str(seen) != str(expected):
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
