"""The English names of languages, and the voices of 8x8."""

from __future__ import annotations

import pickle
import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any


def language_called(name: str) -> str | None:
    """Return the code of the language of this English name, or of this code of three letters; None for others."""
    wanted = without_accents(name)
    found = _alias(wanted) or _english().get(wanted)
    return None if found is None else found.lower()


_SAME_LANGUAGE = {"no": "nb", "nn": "nb", "yue": "zh", "wuu": "zh", "tl": "fil"}
"""Languages that a voice of the other speaks, or that have two codes."""


# fmt: off
VOICES = (
    ("en-US-BenjaminRUS", "en-US", "English (United States)", "Male"),
    ("en-US-JennyNeural", "en-US", "English (United States)", "Female"),
    ("en-IE-EmilyNeural", "en-IE", "English (Ireland)", "Female"),
    ("en-GB-SoniaNeural", "en-GB", "English (United Kingdom)", "Female"),
    ("en-SG-LunaNeural", "en-SG", "English (Singapore)", "Female"),
    ("id-ID-GadisNeural", "id-ID", "Indonesian (Indonesia)", "Female"),
    ("fil-PH-BlessicaNeural", "fil-PH", "Filipino (Philippines)", "Female"),
    ("ms-MY-YasminNeural", "ms-MY", "Malay (Malaysia)", "Female"),
    ("th-TH-PremwadeeNeural", "th-TH", "Thai (Thailand)", "Female"),
    ("zh-CN-XiaoxiaoNeural", "zh-CN", "Chinese (Mandarin, China)", "Female"),
    ("de-DE-KatjaNeural", "de-DE", "German (Germany)", "Female"),
    ("es-ES-ElviraNeural", "es-ES", "Spanish (Spain)", "Female"),
    ("fr-FR-DeniseNeural", "fr-FR", "French (France)", "Female"),
    ("it-IT-ElsaNeural", "it-IT", "Italian (Italy)", "Female"),
    ("nl-NL-ColetteNeural", "nl-NL", "Dutch (Netherlands)", "Female"),
    ("pt-PT-RaquelNeural", "pt-PT", "Portuguese (Portugal)", "Female"),
    ("ta-SG-VenbaNeural", "ta-SG", "Tamil (Singapore)", "Female"),
    ("en-AU-NatashaNeural", "en-AU", "English (Australia)", "Female"),
    ("en-IN-NeerjaNeural", "en-IN", "English (India)", "Female"),
    ("ar-SA-ZariyahNeural", "ar-SA", "Arabic (Saudi Arabia)", "Female"),
    ("cs-CZ-VlastaNeural", "cs-CZ", "Czech (Czechia)", "Female"),
    ("da-DK-ChristelNeural", "da-DK", "Danish (Denmark)", "Female"),
    ("el-GR-AthinaNeural", "el-GR", "Greek (Greece)", "Female"),
    ("es-MX-DaliaNeural", "es-MX", "Spanish (Mexico)", "Female"),
    ("fi-FI-NooraNeural", "fi-FI", "Finnish (Finland)", "Female"),
    ("he-IL-HilaNeural", "he-IL", "Hebrew (Israel)", "Female"),
    ("hi-IN-SwaraNeural", "hi-IN", "Hindi (India)", "Female"),
    ("hu-HU-NoemiNeural", "hu-HU", "Hungarian (Hungary)", "Female"),
    ("ja-JP-NanamiNeural", "ja-JP", "Japanese (Japan)", "Female"),
    ("ko-KR-SunHiNeural", "ko-KR", "Korean (Korea)", "Female"),
    ("nb-NO-PernilleNeural", "nb-NO", "Norwegian Bokmål (Norway)", "Female"),
    ("pl-PL-ZofiaNeural", "pl-PL", "Polish (Poland)", "Female"),
    ("pt-BR-FranciscaNeural", "pt-BR", "Portuguese (Brazil)", "Female"),
    ("ro-RO-AlinaNeural", "ro-RO", "Romanian (Romania)", "Female"),
    ("ru-RU-SvetlanaNeural", "ru-RU", "Russian (Russia)", "Female"),
    ("sv-SE-SofieNeural", "sv-SE", "Swedish (Sweden)", "Female"),
    ("tr-TR-EmelNeural", "tr-TR", "Turkish (Türkiye)", "Female"),
    ("uk-UA-PolinaNeural", "uk-UA", "Ukrainian (Ukraine)", "Female"),
    ("vi-VN-HoaiMyNeural", "vi-VN", "Vietnamese (Vietnam)", "Female"),
    ("zh-HK-HiuGaaiNeural", "zh-HK", "Chinese (Cantonese, Traditional)", "Female"),
    ("zh-TW-HsiaoChenNeural", "zh-TW", "Chinese (Taiwanese Mandarin, Traditional)", "Female"),
)
# fmt: on
"""The voices that the 8x8 guides and our pages use, and some other neural voices: code, locale, language, gender."""


@lru_cache(maxsize=1024)
def at_odds(voice: str, language: str | None) -> str | None:
    """Why a voice does not speak a text in this language, as a clause; None if it does, or nobody can tell.

    A voice is named by its locale, as en-IE-EmilyNeural is; a multilingual one says so. A language is a code or a name.
    """
    if not language or not re.match(r"[a-z]{2,3}-", voice, re.IGNORECASE) or "multilingual" in voice.casefold():
        return None
    spoken, wanted = _language(voice), _language(language)
    if wanted in {None, spoken}:
        return None
    return f"the voice {voice} speaks {spoken}, but the text is in {language}: choose a voice of this language"


def _language(name: str) -> str | None:
    """The code of a language by its code, which a country may follow, or by its name; None for any other text."""
    from babel.core import get_global

    code = re.split(r"[-_]", folded := without_accents(name))[0]
    if not re.fullmatch(r"[a-z]{2,3}", code):
        code = _english().get(folded, "").partition("_")[0]
    code = str(get_global("language_aliases").get(code, code))
    return _SAME_LANGUAGE.get(code, code) or None


def without_accents(text: str) -> str:
    """The text for comparisons: without case, accents and spaces around it."""
    parts = unicodedata.normalize(
        "NFKD", " ".join(text.replace("\u2019", "'").split()).casefold().replace("\u0131", "i")
    )
    return "".join(each for each in parts if not "\u0300" <= each <= "\u036f")


def _alias(code: str) -> str | None:
    """The usual code of a language for one of three letters: deu is de."""
    from babel.core import get_global

    if len(code) != 3 or not code.isascii() or not code.isalpha():
        return None
    found: Any = get_global("language_aliases").get(code)
    codes: list[str] = [found] if isinstance(found, str) else list(found or ())
    return codes[0] if len(codes) == 1 else None


@cache
def _english() -> Mapping[str, str]:
    """The codes of languages by their English names, without accents. Babel's cache would keep all that it has."""
    from babel import localedata

    with Path(localedata.resolve_locale_filename("en")).open("rb") as file:
        names: Mapping[str, str] = pickle.load(file)["languages"]  # noqa: S301 (a file of babel's own)
    return {without_accents(name): code for code, name in names.items()}
