#!/bin/sh
# ovos-number-parser 0.19.13: twelve and a half is "zwölf Komma fünf null null" in German.
# Guess: 12.5 is spoken with one decimal, as in English, and 0.05 begins with its zero.
# What happens: German, Danish, Dutch and Swedish speak three decimals of any number, with the zeros that nobody wrote,
# and Hungarian counts thousandths. German and Danish leave the zero before the comma out. English and French are right.
# Seen: 12.5 "zwölf Komma fünf null null", "twaalf komma vijf nul nul"; 0.05 " Komma null fünf null".
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check ovos-number-parser==0.19.13
cd "$dir"
bin/python - <<'END'
from ovos_number_parser import pronounce_number

languages = ("de", "da", "nl", "sv", "hu", "en", "fr")
seen = {code: [pronounce_number(each, code) for each in (12.5, 0.05)] for code in languages}
expected = {
    "de": ["zwölf Komma fünf null null", " Komma null fünf null"],
    "da": ["tolv komma fem nul nul", "komma nul fem nul"],
    "nl": ["twaalf komma vijf nul nul", "nul komma nul vijf nul"],
    "sv": ["tolv komma fem noll noll", "noll komma noll fem noll"],
    "hu": ["tizenkettő egész ötszáz ezred", "nulla egész ötven ezred"],
    "en": ["twelve point five", "zero point zero five"],
    "fr": ["douze virgule cinq", "zéro virgule zéro cinq"],
}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
