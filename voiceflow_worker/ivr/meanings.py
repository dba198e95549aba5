"""What a cell means to whoever wrote it: yes or no in the languages that columns have, a number, a text, or nothing."""

from __future__ import annotations

import re
import unicodedata

from voiceflow_worker.model.flows.values import UnspeakableError, value_text

WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)
DECIMAL = re.compile(r"[+-]?\d{1,15}\.\d{1,15}", re.ASCII)
"""The numbers that are certain."""
_YES_WORDS = (
    "yes y true t on x ✓ ✔ ja j wahr oui vrai sí si s verdadero sim verdadeiro vero waar ano igen jo kyllä da да так "
    "ναι evet doğru ya iya benar có ใช่ 是 はい 예 네 نعم हाँ prawda pravda tosi sand sant sann igaz истина істина "  # noqa: RUF001 - in other scripts
    "αληθησ αληθές σωστό σωστο adevărat adevarat veritat rétt 真 จริง 참 točno tačno тачно tõene patiess teisinga "
    "teisingai вярно đúng صح सही"
)
_NO_WORDS = (
    "no n false f off nein falsch non faux falso não nao nee onwaar nie ne nem nei nej ei не нет ні όχι hayir hayır "  # noqa: RUF001
    "yanlış yanliş tidak bukan không ไม่ 否 不 いいえ 아니요 아니오 لا नहीं fałsz nepravda epätosi falsk falskt usann "  # noqa: RUF001
    "hamis ложь хибність брехня ψευδησ ψευδές λάθος λαθος fals vals rangt 假 偽 เท็จ 거짓 netočno netačno нетачно väär "
    "aplams klaidinga neteisingai невярно salah sai خطأ गलत"
)
_YES, _NO = (frozenset(map(str.casefold, words.split())) for words in (_YES_WORDS, _NO_WORDS))
"""What people and spreadsheets write for yes and no, in the languages that columns have. Words that are both, such as
tak (a Polish yes, an Indonesian no), are neither."""
_NOTHING_WORDS = (
    "n/a #n/a n.a. none null nil (blank) (null) (none) (empty) (leer) false no_data not_available not_applicable "
    "unknown not_provided k.a. k._a. kein keine keiner keine_angabe leer unbekannt n.v. n._v. s/o sans_objet aucun "
    "aucune néant vide inconnu ninguno ninguna vacío s/d sin_datos no_aplica desconocido nenhum nenhuma vazio "
    "não_informado nessuno vuoto n.d. geen n.v.t. leeg onbekend brak saknas okänd ukendt yok boş bilinmiyor tidak_ada "
    "kosong tiada н/д пусто не_указано 无 空 なし 無し 없음"
)
_NOTHING = frozenset(_NOTHING_WORDS.split())
_LONGEST_NOTHING = 16


def meaning_of(value: object) -> bool | float | str:
    """What a value means: yes or no, in the languages that columns have, a number, or a text, in lower case."""
    if isinstance(value, bool):
        return value
    text = written(value)
    if WHOLE.fullmatch(text) or DECIMAL.fullmatch(text):
        return float(text)
    word = " ".join(text.casefold().split())
    said = word.strip(" .!")
    return said in _YES if said in _YES or said in _NO else word


def are_alike(one: object, other: object) -> bool:
    """Whether two values mean the same. Of two letters, each is a code of its own, whatever the case."""
    if is_letter(one) and is_letter(other):
        return str(one).casefold() == str(other).casefold()
    return meaning_of(one) == meaning_of(other)


def is_letter(value: object) -> bool:
    """Whether a value is a single letter, which may be a code."""
    return isinstance(value, str) and len(value) == 1 and value.isalpha()


def written(value: object) -> str:
    """The text of a value; what Python prints of one that cannot be spoken."""
    try:
        return value_text(value).strip()
    except UnspeakableError:
        return str(value)


class Nothing(str):
    """A word that people and programs write where there is no value. It is spoken as it stands, and counts as none."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


def stands_for_nothing(text: str) -> bool:
    """Whether a text is such a word, or has signs alone: N/A, --, (blank), k. A., or the False of a database.

    A person may bear such a name, so it is no missing value.
    """
    word = text.strip()
    if len(word) > _LONGEST_NOTHING:
        return False
    is_word = word == "NA" or "_".join(word.casefold().split()) in _NOTHING
    return is_word or (
        bool(word) and not word[0].isalnum() and all(unicodedata.category(each)[0] == "P" for each in word)
    )
