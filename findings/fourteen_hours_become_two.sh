#!/bin/sh
# gruut 2.4.0, which reads texts for the voices of Mimic 3 and Larynx: 14:05 is "two oh five".
# Guess: a time of day is spoken as it is written, in English and in German, and a number as its country writes it.
# What happens: in English, hours beyond twelve lose twelve, and nothing says that it is the afternoon. In German, French
# and Spanish a time is no word at all. A number in groups is one number of thousands, and its zero at the front is lost.
# Seen: "at 14:05" is "at two oh five", "um 14:05" stays "um 14:05"; German "0800 1234567" begins with "achthundert
# eine Million".
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check 'gruut[de,fr]==2.4.0'
cd "$dir"
bin/python - <<'END'
from gruut import sentences

seen = {
    (code, text): " ".join(word.text for sentence in sentences(text, lang=code) for word in sentence)
    for code, text in (
        ("en-us", "at 14:05"), ("en-us", "at 2:05 PM"), ("de-de", "um 14:05"), ("fr-fr", "à 14:05"),
        ("de-de", "0800 1234567"),
    )
}
expected = {
    ("en-us", "at 14:05"): "at two oh five",
    ("en-us", "at 2:05 PM"): "at two oh five P M",
    ("de-de", "um 14:05"): "um 14:05",
    ("fr-fr", "à 14:05"): "à 14:05",
    ("de-de", "0800 1234567"): "achthundert eine Million zweihundertvierunddreissigtausendfünfhundertsiebenundsechzig",
}
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
