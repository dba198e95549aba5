"""Remedies worded for the command line, with its commands, options and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping

from voiceflow_worker.errors import Remedy
from voiceflow_worker.model.text.hiding import without_secrets_in
from voiceflow_worker.model.text.printable import printable

_WORDS: Mapping[str, str] = {
    Remedy.ALLOW_PLAIN_HTTP: "allow plain HTTP with VOICEFLOW_ALLOW_PLAIN_HTTP=yes if you trust the network",
    Remedy.CALL_AGAIN: "enqueue with --again to call these people again",
    Remedy.CHECK_API_KEY: "check VOICEFLOW_API_KEY",
    Remedy.CHECK_BASE_URL: "check VOICEFLOW_BASE_URL",
    Remedy.CHECK_SUB_ACCOUNT: "check VOICEFLOW_SUB_ACCOUNT",
    Remedy.FORCE_REDIAL: "give --force to call again",
    Remedy.GIVE_SOURCE: "give --source",
    Remedy.GIVE_TEMPLATE: "give --template FLOW.json, a call flow that asks the first question of the menu",
    Remedy.GIVE_TEXT: "give --template FLOW.json or --say TEXT",
    Remedy.GIVE_VALIDITY: "give a later valid_until, or a longer --valid-for",
    Remedy.GIVE_VOICE: "give --voice-profile",
    Remedy.LIST_NUMBERS: "use a source that the account owns (`voiceflow account numbers`)",
    Remedy.LIST_VOICES: "use a voiceProfile of the account (`voiceflow account profiles`)",
    Remedy.LOWER_RATE: "lower --rate or --max-active",
    Remedy.MAKE_BACKUP: "make a backup of it (`voiceflow backup FILE`)",
    Remedy.NAME_BATCH: "give --batch",
    Remedy.NAME_COLUMN: "name the column of numbers with --column",
    Remedy.NAME_OUTCOMES: "give --redial-on busy,no_answer (or VOICEFLOW_REDIAL_ON), or --redial-max 0 for no redial",
    Remedy.NAME_SHEET: "give --sheet NAME",
    Remedy.NAME_TIME_ZONE: "give each row a time_zone, or give --time-zone for all rows",
    Remedy.OTHER_BATCH: "use another batch id (--batch)",
    Remedy.RECONCILE: "run `voiceflow reconcile`, resolve what stays in doubt (`voiceflow calls resolve`), then run "
    "`voiceflow resume`",
    Remedy.RESOLVE: "a person can resolve it (`voiceflow calls resolve`)",
    Remedy.RESTORE: "restore a backup (`voiceflow restore FILE`)",
    Remedy.RESUME: "resume the queue (`voiceflow resume`)",
    Remedy.SERVE_MENU: "start a receiver that serves this menu (`voiceflow serve --ivr MODULE:MENU`)",
    Remedy.SET_KEY_ASIDE: "remove it, and put the API key into VOICEFLOW_API_KEY",
    Remedy.SET_NOTIFY_SECRET: "set VOICEFLOW_NOTIFY_SECRET, the secret that signs notifications",
    Remedy.SET_STATE_DIR: "set VOICEFLOW_STATE_DIR",
    Remedy.SHARE_NUMBER: "VOICEFLOW_SHARED_NUMBERS lists numbers that may be in many calls at once",
    Remedy.SHORTEN_RETENTION: "shorten VOICEFLOW_RETENTION",
    Remedy.UNSUPPRESS: "`voiceflow suppress remove NUMBER` removes the number from the list",
    Remedy.VALIDATE: "validate the body (`voiceflow check FILE`)",
    Remedy.VALIDATE_AUDIO: "validate the audio file (`voiceflow check --fetch`)",
}
_REMEDY = re.compile("|".join(f"[{each[0].upper()}{each[0]}]{re.escape(each[1:])}" for each in _WORDS))


def in_commands(text: str) -> str:
    """The text, with each remedy worded as a command, an option or a setting."""
    return _REMEDY.sub(_worded, text)


def _worded(match: re.Match[str]) -> str:
    first, rest = match[0][0], match[0][1:]
    words = _WORDS[first.lower() + rest]
    return words if first.islower() else words[0].upper() + words[1:]


def error_line(message: str) -> str:
    """An error message for printing: remedies are worded as commands, secrets and control characters are removed."""
    return f"voiceflow: {printable(without_secrets_in(in_commands(message)))}"
