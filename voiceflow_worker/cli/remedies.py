"""Remedies in the words of the command line: its commands, options and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping

from voiceflow_worker.errors import Remedy

_WORDS: Mapping[str, str] = {
    Remedy.ALLOW_PLAIN_HTTP: "allow it for this network with VOICEFLOW_ALLOW_PLAIN_HTTP=yes",
    Remedy.CHECK_API_KEY: "check VOICEFLOW_API_KEY",
    Remedy.CHECK_BASE_URL: "check VOICEFLOW_BASE_URL",
    Remedy.CHECK_SUB_ACCOUNT: "check VOICEFLOW_SUB_ACCOUNT",
    Remedy.FORCE_REDIAL: "give --force to call again",
    Remedy.GIVE_VALIDITY: "give a later valid_until, or a longer --valid-for",
    Remedy.LIST_NUMBERS: "use a source that the account owns (`voiceflow account numbers`)",
    Remedy.LIST_VOICES: "use a voiceProfile of the account (`voiceflow account profiles`)",
    Remedy.LOWER_RATE: "lower --rate or --max-active",
    Remedy.MAKE_BACKUP: "make a backup of it (`voiceflow backup FILE`)",
    Remedy.NAME_OUTCOMES: "give --redial-on busy,no_answer (or VOICEFLOW_REDIAL_ON), or --redial-max 0 for no redial",
    Remedy.NAME_TIME_ZONE: "give the rows a time_zone, or all of them --time-zone",
    Remedy.OTHER_BATCH: "use another batch id (--batch)",
    Remedy.RESOLVE: "a person can resolve it (`voiceflow calls resolve`)",
    Remedy.RESTORE: "restore a backup (voiceflow restore FILE)",
    Remedy.RESUME: "resume the queue (`voiceflow resume`)",
    Remedy.SET_KEY_ASIDE: "put it into VOICEFLOW_API_KEY",
    Remedy.SET_NOTIFY_SECRET: "notifications are signed with VOICEFLOW_NOTIFY_SECRET",
    Remedy.SET_STATE_DIR: "set VOICEFLOW_STATE_DIR",
    Remedy.SHARE_NUMBER: "VOICEFLOW_SHARED_NUMBERS lists numbers that may be in many calls at once",
    Remedy.SHORTEN_RETENTION: "shorten VOICEFLOW_RETENTION",
    Remedy.UNSUPPRESS: "`voiceflow suppress remove NUMBER` removes it from the list",
    Remedy.VALIDATE: "validate the body (`voiceflow check FILE`)",
    Remedy.VALIDATE_AUDIO: "validate the audio file (`voiceflow check --fetch`)",
}
_REMEDY = re.compile("|".join(f"[{each[0].upper()}{each[0]}]{re.escape(each[1:])}" for each in _WORDS))


def in_commands(text: str) -> str:
    """The text, with each remedy as something to type on the command line or to set."""
    return _REMEDY.sub(_worded, text)


def _worded(match: re.Match[str]) -> str:
    first, rest = match[0][0], match[0][1:]
    words = _WORDS[first.lower() + rest]
    return words if first.islower() else words[0].upper() + words[1:]
