"""What says whom not to call: columns by their names, in both senses, and the remarks beside people's names."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache

from voiceflow_worker.ivr.meanings import meaning_of, stands_for_nothing
from voiceflow_worker.model.flows.values import is_missing


class Told(StrEnum):
    """By what a cell says that its person is not to be called."""

    MUST_NOT = "says by its name whom not to call, but {rows} in which it is neither empty nor a no would be called"
    MAY = "says by its name who may be called, but {rows} in which it is a no would be called"
    REMARK = "says in {rows} not to call somebody who would be called"


def _alternatives(*texts: str) -> str:
    """The alternatives in these texts, in whose words spaces may be missing."""
    return "|".join(texts).replace(" ", " ?")


_NOT_TO_BE_CALLED = _alternatives(
    r"(?:(?:do|must|may|should|can) ?not (?:be |allow |)(?:call|contact|phon|ring|dial|disturb)(?:ed)?"
    r"|(?:don.?t|never|stop) (?:call|contact|phon|ring)(?:ing)?)(?! (?:before|after))",
    r"not to be (?:call|contact|phon)ed|(?:nicht|keine?) anruf|nicht (?:mehr )?(?:angerufen|kontaktier)",
    r"ne (?:pas|plus) (?:appeler|contacter)|no (?:llamar|llame|contactar)|n[ãa]o (?:ligar|conta|(?:me )?perturb)",
    r"non (?:chiamare|contattare)|niet bellen|bel me niet|ring (?:ej|inte|ikke)|(?:ikke|inte) ringe?s?\b",
    r"nie dzwoni|nevolat|не (?:звонить|дзвонити)|aramay|jangan (?:hubungi|tele|panggil)|không gọi",
    r"[请請]勿|勿[扰拨擾撥打]|電話不可|連絡不要|수신 거부|전화 금지|ห้ามโทร",
)
_DEAD = _alternatives(
    r"deceased|verstorben|d[ée]c[ée]d[ée]|falleci[dm]|faleci[dm]|decedut|overleden|avliden|a[vf]d[øo]d|zmar[łl]|vefat",
    r"meninggal|已故|사망",
)
_BY_NAME = _alternatives(
    r"dnc[rl]?\b|\bndnc|\bncpr\b|\bdnd\b|\bc?tps\b|(?<![a-z])opt(?:s|ed|) out|unsubscribed?",
    r"gesperrt|\bsperr(?:e\b|ve|ke)|(?:werbe|anruf|telefon|kontakt)(?:sperr|widerspruch)|bloctel|d[ée]sinscri",
    r"robinson|opposizioni|\bnix\b|afgemeld|\brepep\b|lnnte|(?:black|block|no ?call) ?list|\bsuppress(?:ed|ion)",
    r"litigators?\b|schwarze liste|liste noire|lista (?:negra|nera)|zwarte lijst|svarte? ?list|czarna list",
    r"ч[её]рн\w+ спис|kara liste|(?:daftar|senarai) hitam",
    r"danh sách đen|黑名[单單]|ブラックリスト|블랙리스트|(?:refuses|objects to) (?:phone |)calls|without consent",
    r"(?:no|keine) (?:consent|einwilligung)|consent (?:was |is |)(?:withdraw|revok|refus|denied)|withdrew consent",
    r"(?:einwilligung|zustimmung) (?:widerruf|verweiger|abgelehnt)|consentement (?:retir|refus|r[ée]voqu)",
    r"dates? of death|death date|\bdied\b|\bdead\b|todes(?:tag|datum)|sterbe(?:tag|datum)|gestorben|\bd[ée]c[èe]s",
    r"fecha de (?:defunci|muerte)|defunci[óo]n|difunt|data (?:di|da) morte|\b[óo]bito|overlijden|d[öø]dsda[tg]|zgonu",
    r"úmrt|смерт|помер|ölüm|kematian|ngày mất|qua đời|死亡|เสียชีวิต",
)
_CHECKED = re.compile(r"(?:check|screen|scrub|wash)(?:ed| date| on| at|ed .*)$|date.*(?:check|screen|scrub|wash)")
"""When a register was asked."""
_CONSENT = _alternatives(
    r"consen[st]|permission|permitted|permits?\b|authori[sz]|agree[sd]?\b|accepts?\b|allow(?:s|ed)?\b|opt(?:s|ed|) in",
    r"\bok(?:ay|)\b|einwillig|zustimm|einverst|erlaub|gestattet|\bdarf\b|accord|accepte|acepta|aceita|accett|autori[sz]",
    r"permi[ts]e|permiso|toestemm|akkoord|\bmag\b|samtyck|samtykke|tillat|till[åa]t|suostum|zgod|souhlas|súhlas|hozzájár",
    r"consimț|соглас|разреш|згод|дозв|\bizn?i|onay|persetuju|setuju|kebenaran|benarkan|đồng ý|cho phép|同意",
    r"[允許许]可?|可[否以]?|동의|허용|ยินยอม|อนุญาต|موافق|सहमति|अनुमति",
)
_PHONE = _alternatives(
    r"\bcall|phon|t[ée]l[ée]f|t[ée]l[ée]p|\btel\b|\bring|anruf|angerufen|kontaktauf|appel|llama|liga[rçc]|chiama|bellen",
    r"gebeld|dzwon|звон|телефон|дзвін|дзвон|arama|panggil|hubungi|gọi|[电電]話?话?|致[电電]|전화|통화|โทร|اتصال|कॉल|फ़ोन",
)
_TO_CONTACT = _alternatives(
    r"(?:consent|permission|opt in|ok|okay|allowed|agree[sd]?)(?: (?:to|for|by|be|us)){0,3} contact(?:ed)?\b",
    r"(?:may|can) (?:we|i|you|be) (?:call|contact|phone|ring)(?:ed)?\b|can (?:call|contact)\b|(?:call|contact)able\b",
    r"contact (?:allowed|permitted|consent|permission|ok)\b|\balive\b",
)
_OF_ALL = re.compile(
    r"(?:(?:has |gave |gdpr |dsgvo |rgpd )?(?:consent|permission|einwilligung|consentement|consentimiento|consenso)"
    r"(?: given| granted| gdpr| dsgvo| rgpd)?|(?:has )?opt(?:ed|s)? ?in|consented|einwilligung erteilt)"
)
"""The names of columns about consent that say nothing more."""
_OF_OTHERS = re.compile(
    r"form|receiv|signed|\bsent\b|record|aufzeich|mitschnitt|enregistr|grab|date|datum|treat|surg|photo|foto|video|number|nummer"
)
"""What such a column is about, if not about the call."""
_OTHER_WAYS = re.compile(r"mail|fax|sms|whatsapp|newsletter|link|url|\btext")
_REMARKS = re.compile(
    r"status|note|notiz|remark|comment|kommentar|flag|\btag|categor|disposition|bemerk|hinweis|vermerk|anmerk|statut"
    r"|remarq|estado|observa|\bnota|stato|opmerk|anm[æä]rk|uwag|poznám|примеч|коммент|catatan|keterangan|ghi chú"
    r"|[备備]|비고|หมายเหตุ"
)
_MUST_NOT = re.compile(f"{_NOT_TO_BE_CALLED}|{_DEAD}|{_BY_NAME}")
_MAY = re.compile(f"{_TO_CONTACT}|(?:{_CONSENT}).*(?:{_PHONE})|(?:{_PHONE}).*(?:{_CONSENT})")
_BY_PHONE = re.compile(_PHONE)
IN_NAME = re.compile(
    rf"\b(?:{_NOT_TO_BE_CALLED}|{_DEAD}|opt(?:ed)? ?out\b|gesperrt|dnc\b)|[(\[](?:dnd|c?tps)[)\]]|[†✝]"
)
"""A remark beside a name, in lower case."""
_IN_REMARK = re.compile(rf"\b(?:{_NOT_TO_BE_CALLED}|dnc)\w*\s*(?:$|[.!;,)\]/|])|^\W*(?:{_DEAD}|[†✝])\W*$")
_CLEARED = re.compile(r"(?:all )?(?:clear(?:ed)?|clean|ok(?:ay)?|pass(?:ed)?|allowed|callable|permitted|alive|living)")
_NEGATED = re.compile(r"(?:no|not|non|none|nicht|never|nunca|jamais|niet|ej|inte|ikke|nie|не)\b")
_NOT_LISTED = re.compile(r"not? (?:on|in|listed|registered|found|match)")
_REFUSED = re.compile(
    r"refus|declin|denied|withdr|revok|opt(?:ed)? ?out|none\b|keine?\b|abgelehnt|verweiger|widerruf|nicht\b|non\b|retir"
    r"|rechaz|rifiut|revoc|nega[dt]|geweig|ingetrokken|nekad|avsl|odm[óoí]|отказ|відмов|ditolak|từ chối|拒|不"
    r"|거부|ปฏิเสธ|ไม่|not (?:given|granted|allowed|ok|agreed|permitted)"
)


LONGEST_REMARK = 200
"""The characters of a remark that are looked at."""


def told_not_to_call(name: str, cell: object) -> Told | None:
    """By what a cell of a column says that its person is not to be called, if it does."""
    sense = sense_of(name)
    if sense is None or cell is None or cell == "":
        return None
    text = str(cell)
    words = text.casefold()
    if sense is Told.REMARK:
        return sense if _IN_REMARK.search(words, 0, LONGEST_REMARK) else None
    meant = meaning_of(cell)
    if sense is Told.MAY and meant == 0:
        return sense
    if not meant or is_missing(cell) or stands_for_nothing(text):
        return None
    is_told = _MUST_NOT.search(_words(text)) is not None
    is_no = meaning_of(words.split()[0].strip(",;:-")) is False
    if sense is Told.MAY:
        return sense if is_told or is_no or _REFUSED.match(words) else None
    if _CLEARED.fullmatch(words.strip(" .!")) or _NOT_LISTED.match(words):
        return None
    return None if (is_no or _NEGATED.match(words)) and not _BY_PHONE.search(words) else sense


@lru_cache(maxsize=1024)
def sense_of(name: str) -> Told | None:
    """What a column is by its name, such as `Do Not Call`, `Deceased`, `May we call?` or `Remarks`; None for others."""
    words = _words(name)
    if _OTHER_WAYS.search(words) and not _BY_PHONE.search(words):
        return None
    if _MUST_NOT.search(words):
        return None if _CHECKED.search(words) else Told.MUST_NOT
    if _OF_ALL.fullmatch(words.strip()) or (_MAY.search(words) and not _OF_OTHERS.search(words)):
        return Told.MAY
    return Told.REMARK if _REMARKS.search(words) else None


def _words(name: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    return re.sub(r"[\s_\-'\u2019.?()/:]+", " ", apart).casefold()
