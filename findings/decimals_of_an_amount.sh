#!/bin/sh
# babel 2.19.0 with iso4217 1.16.20260101: an amount loses its decimals in currencies that have two of them.
# Guess: ISO 4217 gives the forint, the rupiah and the Colombian peso two decimals, so 12.50 is written as 12.50.
# What happens: babel has none for them and rounds: 12.50 is 12. With `currency_digits=False` they stay.
# Seen: decimals 2, 2, 2 by ISO, 0, 0, 0 by babel; in Hungarian 12 Ft, and 12,50 Ft with currency_digits=False.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check babel==2.19.0 iso4217==1.16.20260101
cd "$dir"
bin/python - <<'END'
from babel.numbers import format_currency, get_currency_precision
from iso4217 import Currency

codes = ["HUF", "IDR", "COP"]
forints = [format_currency(12.5, "HUF", locale="hu", currency_digits=digits) for digits in (True, False)]
seen = [
    [Currency(code).exponent for code in codes],
    [get_currency_precision(code) for code in codes],
    [" ".join(text.split()) for text in forints],
]
expected = [[2, 2, 2], [0, 0, 0], ["12 Ft", "12,50 Ft"]]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
