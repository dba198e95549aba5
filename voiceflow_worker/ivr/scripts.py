"""What a voice reads: the scripts of its language, Latin letters, and markup such as `<break time="500ms"/>`."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import orjson

from voiceflow_worker.model.flows.actions import heard_in

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


_MARKUP = re.compile(r"</[a-z][\w:-]{0,40}\s?>|<[a-z][\w:-]{0,40}(?:\s[^<>=]{0,60}=[^<>]{0,200}|\s?/)>", re.ASCII)
"""A tag of SSML or HTML: one that closes, or has no content or an attribute. `<name>` may be a placeholder."""
_ANY_TAG = re.compile(r"</?[a-z][\w:-]{0,40}(?:\s[^<>]{0,260})?/?>", re.ASCII)


def markup_in(text: str) -> str | None:
    """Why markup in a text is odd, with the text as it is without it; None for a text that has none."""
    found = _MARKUP.search(text) if "<" in text else None
    if found is None:
        return None
    without = " ".join(_ANY_TAG.sub(" ", text).split())
    return f"with the markup {found[0]}, which goes to 8x8 as it stands: without it, the text is {without[:60]!r}"


def unread(text: str, body: str) -> tuple[str, str] | None:
    """The script of a text that a voice of a request body does not read, with that voice; None if all is read.

    The voices are those of the texts that speak it; else the first one, whose later texts do.
    """
    if text.isascii() or max(text) < _FIRST_BEYOND_LATIN:
        return None
    voices = [(each.voice, text in each.text) for each in heard_in(orjson.loads(body)) if each.voice is not None]
    for voice in dict.fromkeys(
        [voice for voice, speaks_it in voices if speaks_it] or [voice for voice, _ in voices[:1]]
    ):
        for found in map(_scripts_in, text.split() if (read := _read_by(voice)) else ()):
            for script in {*found} - read:
                if found.count(script) > 1 or script in _WORDS:
                    return "Chinese" if script == "CJK" else script.title(), voice
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
