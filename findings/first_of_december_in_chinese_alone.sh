#!/bin/sh
# wetext 0.1.8, which reads texts for offline voices in Chinese and English: 1/12/2026 is two days.
# Guess: one library reads a date in one order, or leaves the order that it cannot know as it is.
# What happens: the English rules take the month first, as in the United States, the Chinese ones the day. A list of
# dates is heard right in one of the two languages. A number of a telephone is thousands in English, digits in Chinese.
# Seen: "the twelfth of january twenty twenty six" beside 二零二六年十二月一日, the first of December.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check wetext==0.1.8
cd "$dir"
bin/python - <<'END'
from wetext import Normalizer

english, chinese = (Normalizer(lang=code, operator="tn").normalize for code in ("en", "zh"))
seen = [english("1/12/2026"), chinese("1/12/2026"), english("call 8123 4567"), chinese("13812345678")]
expected = [
    "the twelfth of january twenty twenty six",
    "二零二六年十二月一日",
    "call eight thousand one hundred and twenty three four thousand five hundred and sixty seven",
    "幺三八幺二三四五六七八",
]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
