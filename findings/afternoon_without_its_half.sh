#!/bin/sh
# xlsx2csv 0.8.6 with openpyxl 3.1.5: a day with a time has the hours of a clock face, so an afternoon is a night.
# Guess: a cell of a workbook that shows 2030-01-31 18:00:00 (format yyyy-mm-dd h:mm:ss) is that text in the CSV.
# What happens: h is written as an hour of twelve, although the format has no AM/PM; only then it would be one.
# Seen: 06:00:00 for 18:00:00, 12:30:00 for 00:30:00, 09:30:00 as it is; a time without a day is right (18:00).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check xlsx2csv==0.8.6 openpyxl==3.1.5
cd "$dir"
bin/python - <<'END'
from datetime import datetime, time

from openpyxl import Workbook

book = Workbook()
sheet = book.worksheets[0]
for hour, minute in ((9, 30), (18, 0), (0, 30)):
    sheet.append([datetime(2030, 1, 31, hour, minute), time(hour, minute)])
    assert sheet.cell(sheet.max_row, 1).number_format == "yyyy-mm-dd h:mm:ss"
book.save("visits.xlsx")
END
bin/xlsx2csv visits.xlsx >visits.csv
cat visits.csv
printf '%s\n' "2030-01-31 09:30:00,09:30" "2030-01-31 06:00:00,18:00" "2030-01-31 12:30:00,00:30" | cmp - visits.csv
