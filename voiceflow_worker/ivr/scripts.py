"""The scripts that a voice reads: those of its language, and Latin letters."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SCRIPTS = frozenset({
        "ARABIC", "ARMENIAN", "BENGALI", "BOPOMOFO", "CJK", "CYRILLIC", "DEVANAGARI", "ETHIOPIC", "GEORGIAN", "GREEK",
        "GUJARATI", "GURMUKHI", "HANGUL", "HEBREW", "HIRAGANA", "KANNADA", "KATAKANA", "KHMER", "LAO", "MALAYALAM",
        "MYANMAR", "ORIYA", "SINHALA", "TAMIL", "TELUGU", "THAI",
})  # fmt: skip
"""How Unicode begins the names of their letters."""
_BESIDE = {"CJK": {"BOPOMOFO"}, "HANGUL": {"CJK"}, "HIRAGANA": {"KATAKANA", "CJK"}}
_FIRST_BEYOND_LATIN = "\u0370"
_WORDS = frozenset({"CJK", "HANGUL"})
"""The scripts of which one character may be a word. A single letter of others may be a sign, such as µ or Ω."""
_VOICE = re.compile(r'"voiceProfile":"([^"]+)"')


def unread(text: str, body: str) -> tuple[str, str] | None:
    """The script of a text that the voice of a request body does not read, with that voice; None if it reads all."""
    if text.isascii() or max(text) < _FIRST_BEYOND_LATIN or (voice := _VOICE.search(body)) is None:
        return None
    if not (read := _read_by(voice[1])):
        return None
    for found in map(_scripts_in, text.split()):
        for script in {*found} - read:
            if found.count(script) > 1 or script in _WORDS:
                return "Chinese" if script == "CJK" else script.title(), voice[1]
    return None


def _scripts_in(text: str) -> list[str]:
    """The script of each letter of a text that is not Latin."""
    words = (unicodedata.name(each, "").partition(" ")[0] for each in unicodedata.normalize("NFKC", text))
    return [word for word in words if word in _SCRIPTS]


@lru_cache(maxsize=256)
def _read_by(voice: str) -> frozenset[str]:
    """The scripts that a voice reads beside Latin, by the names that its language has for itself and for its months.

    Empty for one that reads several languages, or whose language is not known.
    """
    from babel import Locale, UnknownLocaleError

    if "multilingual" in voice.casefold():
        return frozenset()
    try:
        locale = Locale.parse("_".join(re.split("[-_]", voice)[:2]))
    except (UnknownLocaleError, ValueError):
        return frozenset()
    names = " ".join(map(str, (locale.display_name or "", *locale.months["format"]["wide"].values())))
    found = {"LATIN", *_scripts_in(names), *({"HIRAGANA"} if locale.language == "ja" else ())}
    return frozenset(found.union(*(_BESIDE.get(script, set()) for script in found)))
