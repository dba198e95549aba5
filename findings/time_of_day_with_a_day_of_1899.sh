#!/bin/sh
# polars 2.1.0, fastexcel 0.21.0, pandas 3.1.1, python-calamine 0.9.1: a time of day in a cell gets a day of 1899.
# Guess: polars reads a cell with 10:30, in the format h:mm:ss, as a time of day, as pandas does with the same reader.
# What happens: with its usual engine, polars makes a date and time of it, on 31 December 1899, which its CSV has too.
# Seen: calamine: pandas 10:30:00, polars 1899-12-31 10:30:00; with engine="openpyxl", polars 10:30:00 too.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 fastexcel==0.21.0 openpyxl==3.1.5 \
    pandas==3.1.1 python-calamine==0.9.1
cd "$dir"
bin/python - <<'END'
from datetime import time

import openpyxl
import pandas
import polars

book = openpyxl.Workbook()
for row in (["name", "at"], ["Ana", time(10, 30)], ["Ben", time(15, 45)]):
    book.active.append(row)
book.save("visits.xlsx")

seen = {
    "pandas": str(pandas.read_excel("visits.xlsx", engine="calamine")["at"][0]),
    "polars": str(polars.read_excel("visits.xlsx")["at"][0]),
    "polars, openpyxl": str(polars.read_excel("visits.xlsx", engine="openpyxl")["at"][0]),
    "csv": polars.read_excel("visits.xlsx").write_csv().splitlines()[1],
}
expected = {
    "pandas": "10:30:00",
    "polars": "1899-12-31 10:30:00",
    "polars, openpyxl": "10:30:00",
    "csv": "Ana,1899-12-31T10:30:00.000",
}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
