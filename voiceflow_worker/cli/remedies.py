"""What to type for a remedy: the commands, options and settings of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.text.hiding import without_secrets_in
from voiceflow_worker.model.text.printable import printable

_TYPED: Mapping[Remedy, str] = {
    Remedy.ALLOW_PLAIN_HTTP: "VOICEFLOW_ALLOW_PLAIN_HTTP=yes",
    Remedy.CALL_AGAIN: "--again",
    Remedy.CHECK_API_KEY: "VOICEFLOW_API_KEY",
    Remedy.CHECK_BASE_URL: "VOICEFLOW_BASE_URL",
    Remedy.CHECK_SUB_ACCOUNT: "VOICEFLOW_SUB_ACCOUNT",
    Remedy.FORCE_REDIAL: "--force",
    Remedy.GIVE_SOURCE: "--source",
    Remedy.GIVE_TEMPLATE: "--template FLOW.json",
    Remedy.GIVE_TEXT: "--template FLOW.json, or --say TEXT",
    Remedy.GIVE_VALIDITY: "--valid-for",
    Remedy.GIVE_VOICE: "--voice-profile",
    Remedy.MAKE_BACKUP: "`voiceflow backup FILE`",
    Remedy.NAME_BATCH: "--batch",
    Remedy.NAME_COUNTRY: "--country SG, or --country international",
    Remedy.NAME_OUTCOMES: "--redial-on busy,no_answer, or --redial-max 0",
    Remedy.NAME_SHEET: "--sheet NAME",
    Remedy.NAME_TIME_ZONE: "--time-zone, or a column time_zone",
    Remedy.OTHER_BATCH: "--batch",
    Remedy.RESTORE: "`voiceflow restore FILE`",
    Remedy.SET_STATE_DIR: "VOICEFLOW_STATE_DIR",
    Remedy.SHORTEN_RETENTION: "VOICEFLOW_RETENTION",
    Remedy.UNSUPPRESS: "`voiceflow suppress remove NUMBER`",
}


def with_remedies(message: str, remedies: Iterable[Remedy | None]) -> str:
    """The message, followed by what to type for its remedies. The message itself stays as it is."""
    typed = "; ".join(_TYPED[each] for each in remedies if each is not None)
    return f"{message} ({typed})" if typed else message


def error_line(message: str) -> str:
    """An error message for printing, without secrets and control characters."""
    return f"voiceflow: {printable(without_secrets_in(message))}"
