#!/bin/sh
# openpyxl 3.1.5: a number that is struck out in a cell, with the new one behind it, is read as two plain numbers.
# Guess: the font of the cell tells that something in it is struck out.
# What happens: the line is a property of a part of the text. The font of the cell has none, and the value has both
# numbers; only a workbook that is loaded with rich_text=True has the parts.
# Seen: +6587654321 +6587654322, font.strike None; parts: the first struck out, the second not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check openpyxl==3.1.5
cd "$dir"
bin/python - <<'END'
from openpyxl import Workbook, load_workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

book = Workbook()
book.active["A1"] = CellRichText(TextBlock(InlineFont(strike=True), "+6587654321"), " +6587654322")
book.save("people.xlsx")
plain = load_workbook("people.xlsx").active["A1"]
parts = load_workbook("people.xlsx", rich_text=True).active["A1"].value
seen = [plain.value, plain.font.strike, [isinstance(part, TextBlock) and part.font.strike for part in parts]]
expected = ["+6587654321 +6587654322", None, [True, False]]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
