#!/bin/sh
# openpyxl 3.1.5, python-calamine 0.9.1, phonenumbers 9.0.43: a sheet shows one valid number, and readers give
# another.
# Guess: a cell that shows 0331 123456 gives these digits, or at least a number that is not valid.
# What happens: the zero and the space are in the number format. Both readers give 331123456, which is valid in Italy
# too: a mobile phone instead of a landline.
# Seen: openpyxl 331123456, calamine 331123456.0; shown: a valid landline, read: a valid mobile phone.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check openpyxl==3.1.5 python-calamine==0.9.1 phonenumbers==9.0.43
cd "$dir"
bin/python - <<'END'
import phonenumbers
from openpyxl import Workbook, load_workbook
from python_calamine import CalamineWorkbook

book = Workbook()
book.active["A1"] = 331123456
book.active["A1"].number_format = "0000 000000"
book.save("people.xlsx")
read = load_workbook("people.xlsx").active["A1"].value
numbers = [phonenumbers.parse(text, "IT") for text in ("0331 123456", str(read))]
landline, mobile = phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE
seen = [
    read,
    CalamineWorkbook.from_path("people.xlsx").get_sheet_by_index(0).to_python()[0][0],
    [phonenumbers.is_valid_number(number) for number in numbers],
    [phonenumbers.number_type(number) for number in numbers] == [landline, mobile],
]
expected = [331123456, 331123456.0, [True, True], True]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
