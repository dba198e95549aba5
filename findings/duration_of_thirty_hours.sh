#!/bin/sh
# odfpy 1.4.1, pandas 3.1.1, python-calamine 0.9.1, pyexcel-ods3 0.6.1: three readers have three meanings of a
# duration.
# Guess: a cell of an OpenDocument sheet with a duration of 30 hours (PT30H00M00S) is read as 30 hours.
# What happens: pandas takes it for a time of day, and raises ValueError for the whole sheet; calamine gives the text
# of the file; pyexcel-ods3 gives 30 hours.
# Seen: ValueError; PT30H00M00S; 1 day, 6:00:00.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check odfpy==1.4.1 pandas==3.1.1 python-calamine==0.9.1 pyexcel-ods3==0.6.1
cd "$dir"
bin/python - <<'END'
from datetime import timedelta

import pandas
import pyexcel_ods3
from odf.opendocument import OpenDocumentSpreadsheet
from odf.table import Table, TableCell, TableRow
from odf.text import P
from python_calamine import CalamineWorkbook

book, table = OpenDocumentSpreadsheet(), Table(name="people")
name, wait = TableCell(valuetype="string"), TableCell(valuetype="time", timevalue="PT30H00M00S")
for cell, text in ((name, "wait"), (wait, "30:00:00")):
    cell.addElement(P(text=text))
    row = TableRow()
    row.addElement(cell)
    table.addElement(row)
book.spreadsheet.addElement(table)
book.save("people.ods")
try:
    by_pandas = pandas.read_excel("people.ods", engine="odf")["wait"][0]
except ValueError:
    by_pandas = "ValueError"
by_calamine = CalamineWorkbook.from_path("people.ods").get_sheet_by_index(0).to_python()[1][0]
seen = [by_pandas, by_calamine, pyexcel_ods3.get_data("people.ods")["people"][1][0]]
expected = ["ValueError", "PT30H00M00S", timedelta(hours=30)]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
