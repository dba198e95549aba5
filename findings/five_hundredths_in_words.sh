#!/bin/sh
# num2words 0.5.14: 21.05 and 21.5 are the same words in Bengali and Persian.
# Guess: the zero behind the point is said, as in "twenty-one point zero five", or hundredths have their own name.
# What happens: Bengali and Persian leave the zero out, so an amount of five cents is heard as fifty. English, German
# and Thai say it.
# Seen: 0.05 and 21.05 have the words of 0.5 and 21.5: bn, fa; other words: en, de, th.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check num2words==0.5.14
cd "$dir"
bin/python - <<'END'
from num2words import num2words

seen = {
    code: [num2words(whole + 0.05, lang=code) == num2words(whole + 0.5, lang=code) for whole in (0, 21)]
    for code in ("bn", "fa", "en", "de", "th")
}
expected = {"bn": [True] * 2, "fa": [True] * 2, "en": [False] * 2, "de": [False] * 2, "th": [False] * 2}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
