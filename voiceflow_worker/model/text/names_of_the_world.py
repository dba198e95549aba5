"""The English names of countries and languages, and the voices of 8x8."""

from __future__ import annotations

import pickle
import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal


def country_called(name: str) -> str | None:
    """Return the ISO 3166 code of the country of this English name, or of this code of three letters; None for others.

    Case and accents do not matter.
    """
    wanted = without_accents(name)
    return _alias(wanted, "territory_aliases") or _english("territories").get(wanted) or _official().get(wanted)


_SHORT = {"great britain": "GB", "u.a.e.": "AE", "u.k.": "GB", "u.s.": "US", "u.s.a.": "US", "uae": "AE"}


@cache
def _official() -> Mapping[str, str]:
    """The codes by the names of ISO 3166, also as one says them: Korea, Republic of, and Republic of Korea."""
    from iso3166 import countries

    found: dict[str, str] = dict(_SHORT)
    for country in countries:
        for name in (country.name, country.apolitical_name):
            own, comma, title = name.partition(", ")
            spoken = [f"{title} {own}", f"the {title} {own}"] if comma and title.endswith((" of", " the")) else []
            for each in (name, f"the {name}", f"{own} ({title})", *spoken):
                found.setdefault(without_accents(each), country.alpha2)
    return found


def language_called(name: str) -> str | None:
    """Return the code of the language of this English name, or of this code of three letters; None for others."""
    wanted = without_accents(name)
    found = _alias(wanted, "language_aliases") or _english("languages").get(wanted)
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
        code = _english("languages").get(folded, "").partition("_")[0]
    code = str(get_global("language_aliases").get(code, code))
    return _SAME_LANGUAGE.get(code, code) or None


def without_accents(text: str) -> str:
    """The text for comparisons: without case, accents and spaces around it."""
    parts = unicodedata.normalize(
        "NFKD", " ".join(text.replace("\u2019", "'").split()).casefold().replace("\u0131", "i")
    )
    return "".join(each for each in parts if not "\u0300" <= each <= "\u036f")


def _alias(code: str, kind: Literal["territory_aliases", "language_aliases"]) -> str | None:
    """The usual code for one of three letters: DEU is DE, and deu is de."""
    from babel.core import get_global

    if len(code) != 3 or not code.isascii() or not code.isalpha():
        return None
    found: Any = get_global(kind).get(code.upper() if kind == "territory_aliases" else code)
    codes: list[str] = [found] if isinstance(found, str) else list(found or ())
    return codes[0] if len(codes) == 1 else None


@cache
def _english(kind: Literal["territories", "languages"]) -> Mapping[str, str]:
    """The codes by their English names, without accents."""
    return {
        without_accents(name.removesuffix(" SAR China")): code
        for code, name in _data().get(kind, {}).items()
        if kind == "languages" or (len(code) == 2 and code.isalpha())
    }


@cache
def _data() -> Mapping[str, Mapping[str, Any]]:
    """What babel has in English, read without its cache, which would keep all of it."""
    from babel import localedata

    with Path(localedata.resolve_locale_filename("en")).open("rb") as file:
        data: Mapping[str, Mapping[str, Any]] = pickle.load(file)  # noqa: S301 (a file of babel's own)
    return {kind: data[kind] for kind in ("territories", "languages")}
