#!/bin/sh
# phonenumbers 9.0.43: the second of two numbers in one text is taken for an extension.
# Guess: a text with two numbers is not valid, as `8123 4567 / 91234567` is not: together they are too long.
# What happens: with a semicolon between them the first is valid, and the second is its extension of eight digits,
# which E.164 leaves out. The matcher of the same package finds both.
# Seen: +6581234567, valid, extension 91234567; the matcher: +6581234567 and +6591234567.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check phonenumbers==9.0.43
cd "$dir"
bin/python - <<'END'
import phonenumbers

text = "8123 4567; 91234567"
number = phonenumbers.parse(text, "SG")
e164 = phonenumbers.PhoneNumberFormat.E164
seen = [
    phonenumbers.is_valid_number(phonenumbers.parse(text.replace(";", " /"), "SG")),
    phonenumbers.is_valid_number(number),
    phonenumbers.format_number(number, e164),
    number.extension,
    [phonenumbers.format_number(found.number, e164) for found in phonenumbers.PhoneNumberMatcher(text, "SG")],
]
expected = [False, True, "+6581234567", "91234567", ["+6581234567", "+6591234567"]]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
