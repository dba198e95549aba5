"""The keys that a spoken text asks people to press."""

from __future__ import annotations

import re

_VERBS = (
    "press|dial|push|drücken|drück|wählen|wähle|appuyez|tapez|composez|touche|pulse|presione|marque|oprima|tecla|"
    "prema|premere|premi|digiti|tasto|pressione|digite|tecle|aperte|druk|toets|tekan|pencet|naciśnij|wciśnij|wybierz|"
    "нажмите|наберите|натисніть|tryck|tryk|trykk|paina|stiskněte|zvolte|nyomja|apăsați|tastați|πατήστε|按下?|bấm|nhấn|"
    "ấn|กด"
)
_FILLERS = r"(?:(?:the|een|key|number|sie|die|la|le|el|il|en|op|a|sur|touche|tecla|taste|tasto|phím|số)\W+){0,3}"
_BEHIND = r"(?:\W{1,2}|['\u2019]?[a-zı]{0,2}\W)?(?:を押|番を押|번?[을를]? ?[누눌]|basın|tuşla|दबा|drücken|wählen)"  # noqa: RUF001
_KEY = re.compile(rf"(?:{_VERBS})\W{{0,3}}{_FILLERS}['\"]?([0-9*#])(?![\d*#])|(?<!\d)([0-9*#]){_BEHIND}", re.IGNORECASE)


def keys_in(text: str) -> list[str]:
    """The keys that a text asks people to press: 3 for `press 3`, in the languages that texts have; each once."""
    return list(dict.fromkeys(found[1] or found[2] for found in _KEY.finditer(text)))
