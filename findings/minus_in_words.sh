#!/bin/sh
# num2words 0.5.14: a negative number loses its minus in words.
# Guess: -0.5 is "minus zero point five" in each language, as -3 is "minus three".
# What happens: between -1 and 0 there is no minus in English, German, French and Spanish, but in Italian and
# Indonesian. In Bengali -3 is three; in Vietnamese it is seventeen.
# Seen: -0.5 has the words of 0.5: en, de, fr, es; other words: it, id. -3 has the words of 3 (bn) and of 17 (vi).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check num2words==0.5.14
cd "$dir"
bin/python - <<'END'
from num2words import num2words

seen = [
    {code: num2words(-0.5, lang=code) == num2words(0.5, lang=code) for code in ("en", "de", "fr", "es", "it", "id")},
    num2words(-3, lang="en"),
    num2words(-3, lang="bn") == num2words(3, lang="bn"),
    num2words(-3, lang="vi") == num2words(17, lang="vi"),
]
expected = [{"en": True, "de": True, "fr": True, "es": True, "it": False, "id": False}, "minus three", True, True]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
