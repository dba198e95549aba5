#!/bin/sh
# phonenumbers 9.0.43: the digit 1 that Mexico's mobile numbers had until 2019 makes them invalid.
# Guess: as the 9 of Argentina's mobile numbers is put in, the 1 of Mexico's, which older lists have, is left out; or
# at least the library says that +521 and +52 are one phone.
# What happens: +521 and ten digits is too long, and is only a short match of the number without the 1.
# Seen: AR 011 15-2345-6789 is +5491123456789; +5215512345678 is not valid, TOO_LONG, SHORT_NSN_MATCH.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check phonenumbers==9.0.43
cd "$dir"
bin/python - <<'END'
import phonenumbers

old, new = (phonenumbers.parse(text) for text in ("+5215512345678", "+525512345678"))
argentine = phonenumbers.parse("011 15-2345-6789", "AR")
seen = [
    phonenumbers.format_number(argentine, phonenumbers.PhoneNumberFormat.E164),
    [phonenumbers.is_valid_number(each) for each in (old, new)],
    phonenumbers.is_possible_number_with_reason(old) == phonenumbers.ValidationResult.TOO_LONG,
    phonenumbers.is_number_match(old, new) == phonenumbers.MatchType.SHORT_NSN_MATCH,
]
expected = ["+5491123456789", [False, True], True, True]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
