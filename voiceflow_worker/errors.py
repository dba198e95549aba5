"""Every error this library raises on purpose.

VoiceflowError
├── InvalidInputError                 something handed in is wrong; nothing was stored or sent
│   ├── CallFlowError                 a call flow breaks rules of the 8x8 contract (all findings at once)
│   ├── PhoneNumberError              a text is not a single callable telephone number
│   ├── CampaignFileError             a file cannot be read as a campaign
│   ├── WebhookEventError             a webhook body is not an event of 8x8
│   ├── NotificationError             a notification has a wrong signature, or is too old
│   ├── KeyConflictError              a unique key exists with another body
│   ├── SuppressedNumberError         a number is on the suppression list
│   └── SettingsError                 a setting is missing or wrong
├── JobError                          about one job
│   ├── JobNotFoundError              no job has this id
│   ├── IllegalMoveError              the job's state does not allow this move
│   │   ├── TooLateError              a cancel came after the call may have left
│   │   └── TooEarlyError             "not placed" is too early; `until` says when
│   ├── StaleJobError                 another process changed the job first
│   └── OutcomeTimeoutError           a job had no outcome yet when the wait for it ended
├── StoreError                        about the store
│   ├── StoreUnavailableError         the store cannot be reached or is locked; try again
│   ├── StoreReadOnlyError            the store cannot be written (permissions, a full disk)
│   ├── StoreCorruptError             the store's file is damaged or is not a store
│   │   └── StoreReplacedError        the store's file was replaced or removed while it was open
│   ├── StoreVersionError             the store was written by a newer version
│   ├── RedisForgetsError             the Redis server may lose what it stores
│   └── UnknownBackendError           no backend is registered for this URL
├── HookError                         raised by a handler of outcomes
│   ├── TellAgainError                deliver the outcome again later
│   └── HookGoneError                 stop the hook
└── VoiceError                        about one call or request to 8x8
    ├── CallRefusedError              8x8 said NOT_CREATED: nobody was called
    ├── CallNotSentError              provably nothing left: nobody was called
    ├── CallInDoubtError              the call may have been placed; do not send it again
    ├── CallLogError                  the call log could not be read; nothing was changed
    │   └── CallLogUnavailableError   8x8 cannot be reached for it; try again
    └── RequestFailedError            a request that places no call was answered with an error
        └── VoiceUnavailableError     8x8 cannot be reached, or asks to come back later; try again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.finding import Finding


class Remedy(StrEnum):
    """An action that solves a problem, worded for any user interface.

    Messages, reasons of holds and tables of codes contain these words; a user interface that knows a command or a
    setting for the action shows that instead.
    """

    ALLOW_PLAIN_HTTP = "allow plain HTTP for this network"
    CALL_AGAIN = "allow calling these people again"
    CHECK_API_KEY = "check the API key"
    CHECK_BASE_URL = "check the base URL"
    CHECK_SUB_ACCOUNT = "check the sub-account id"
    FORCE_REDIAL = "force the redial to call again"
    GIVE_SOURCE = "give a source for all rows"
    GIVE_TEMPLATE = "give a template with a call flow that begins these calls"
    GIVE_TEXT = "give a template or a text"
    GIVE_VALIDITY = "give a later end of validity"
    GIVE_VOICE = "give a voice for all rows"
    LIST_NUMBERS = "use a source that the account owns"
    LIST_VOICES = "use a voiceProfile of the account"
    LOWER_RATE = "lower the rate or the number of open calls"
    MAKE_BACKUP = "make a backup of it"
    NAME_BATCH = "name the batch"
    NAME_COLUMN = "name the column of numbers"
    NAME_OUTCOMES = "name the outcomes to redial after, or allow no redial"
    NAME_SHEET = "name the sheet to read"
    NAME_TIME_ZONE = "give the calls a time zone"
    OTHER_BATCH = "use another batch id"
    RESOLVE = "a person can resolve it"
    RESTORE = "restore a backup"
    RESUME = "resume the queue"
    SET_KEY_ASIDE = "set the API key by itself"
    SET_NOTIFY_SECRET = "set the secret that notifications are signed with"  # noqa: S105 (words)
    SET_STATE_DIR = "set the state directory"
    SHARE_NUMBER = "list numbers that may be in many calls at once as shared"
    SHORTEN_RETENTION = "shorten the retention of ended calls"
    UNSUPPRESS = "remove the number from the suppression list to call it"
    VALIDATE = "validate the body"
    VALIDATE_AUDIO = "validate the audio file"

    @property
    def sentence(self) -> str:
        """The words with a capital first letter, to begin a sentence."""
        return self[0].upper() + self[1:]


class VoiceflowError(Exception):
    """The root of all errors of this library."""

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The actions that the message names."""
        text = str(self)
        return tuple(remedy for remedy in Remedy if remedy in text)


class InvalidInputError(VoiceflowError):
    """Raised when something handed in is wrong; nothing was stored or sent."""


class CallFlowError(InvalidInputError, ValueError):
    """Raised when a call flow breaks rules of the 8x8 contract; `findings` holds every one of them, not the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        count = len(self.findings)
        lines = "\n".join(f"  {finding}" for finding in self.findings)
        super().__init__(f"the call flow has {count} problem{'s' if count != 1 else ''}:\n{lines}")


class PhoneNumberError(InvalidInputError, ValueError):
    """Raised when a text is not one telephone number that can be called; `code` is -1011 (several) or -1017."""

    def __init__(self, message: str, *, code: int = -1017) -> None:
        self.code = code
        super().__init__(message)


class CampaignFileError(InvalidInputError):
    """Raised when a file cannot be read as a campaign; `findings` holds every reason."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        self.findings = tuple(findings)
        super().__init__(message)


class WebhookEventError(InvalidInputError, ValueError):
    """Raised when a webhook body is not an event of 8x8: not an object, or without a payload."""


class NotificationError(InvalidInputError, ValueError):
    """Raised when a notification has a wrong signature or is too old. Answer it with 400."""


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """A unique key that is taken, by the job `owner_id`; `index` is the place of the call in the list given."""

    index: int
    unique_key: str
    owner_id: str


class KeyConflictError(InvalidInputError):
    """Raised when a unique key exists with another body; nothing was enqueued."""

    def __init__(self, conflicts: Sequence[KeyConflict]) -> None:
        self.conflicts = tuple(conflicts)
        first = self.conflicts[0]
        more = f" (and {len(self.conflicts) - 1} more)" if len(self.conflicts) > 1 else ""
        super().__init__(
            f"unique key {first.unique_key!r} belongs to job {first.owner_id}, which has another body{more}; "
            "nothing was enqueued. Use a new key for a new call, or the same body for the same call."
        )


@dataclass(frozen=True, slots=True)
class SuppressedNumber:
    """One call that may not be made: `index` is its place in what was handed in, `reason` a clause."""

    index: int
    number: str
    reason: str


class SuppressedNumberError(InvalidInputError):
    """Raised when a number is on the suppression list; nothing was enqueued. `suppressed` holds every such call."""

    def __init__(self, suppressed: Sequence[SuppressedNumber]) -> None:
        self.suppressed = tuple(suppressed)
        first = self.suppressed[0]
        more = f" (and {len(self.suppressed) - 1} more calls)" if len(self.suppressed) > 1 else ""
        super().__init__(
            f"{first.number} is not called: {first.reason}{more}; nothing was enqueued. {Remedy.UNSUPPRESS.sentence}."
        )


class SettingsError(InvalidInputError):
    """Raised when a setting is missing or wrong; it says which one and where it was looked for."""


class JobError(VoiceflowError):
    """Raised when something cannot be done with one job; `job_id` says which."""

    def __init__(self, job_id: str, message: str) -> None:
        self.job_id = job_id
        super().__init__(message)


class JobNotFoundError(JobError):
    """Raised when no job has this id in this store."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, f"no job {job_id} in this store; check the id, the store and the queue")


class IllegalMoveError(JobError):
    """Raised when a job's state does not allow a move."""

    def __init__(self, job_id: str, *, state: str, move: str, remedy: str = "") -> None:
        self.state = state
        self.move = move
        super().__init__(job_id, f"job {job_id} is {state}: it cannot {move}{'; ' + remedy if remedy else ''}")


class TooLateError(IllegalMoveError):
    """Raised when a cancel comes after the call may have left: a phone that rang cannot be un-rung."""


class TooEarlyError(IllegalMoveError):
    """Raised when "not placed" is said while the POST could still ring; `until` is when it may be said."""

    def __init__(self, job_id: str, *, state: str, until: datetime) -> None:
        self.until = until
        super().__init__(
            job_id,
            state=state,
            move="be resolved as not placed yet",
            remedy=f"8x8 may still place this call until {_moment(until)}; ask again after that",
        )


class StaleJobError(JobError):
    """Raised when another process changed the job first, more often than the change was retried."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            job_id, f"job {job_id} was changed by another process meanwhile; read it again before the next change"
        )


class OutcomeTimeoutError(JobError, TimeoutError):
    """Raised when a job had no outcome yet when the wait for it ended; `state` is where it was when last seen.

    None when the store was away all the time. Nothing has happened to the job: wait again, or look at it.
    """

    def __init__(self, job_id: str, *, state: str | None, waited: timedelta) -> None:
        self.state = state
        match state:
            case None:
                why = "the store could not be reached"
            case "in_doubt":
                why = f"it is in_doubt: only evidence ends a doubt, or {Remedy.RESOLVE}"
            case _:
                why = f"it is {state}"
        super().__init__(job_id, f"job {job_id} has no outcome after {waited.total_seconds():g} s: {why}")


class HookError(VoiceflowError):
    """Raised by a handler of outcomes, to control the delivery."""


class TellAgainError(HookError):
    """Raised by a handler that failed for now: the outcome is delivered again, after `after` at the earliest."""

    def __init__(self, message: str, *, after: timedelta | None = None) -> None:
        self.after = after
        super().__init__(message)


class HookGoneError(HookError):
    """Raised by a handler to stop its hook, which continues with this outcome when it is run again."""


class StoreError(VoiceflowError):
    """Raised when something is wrong with the store."""


class StoreUnavailableError(StoreError):
    """Raised when the store cannot be reached or is locked; nothing is known to have changed. Try again.

    `passes` is False where trying again cannot help before somebody has changed something, such as a wrong password.
    """

    def __init__(self, message: str, *, passes: bool = True) -> None:
        self.passes = passes
        super().__init__(message)


class StoreReadOnlyError(StoreError):
    """Raised when the store cannot be written: permissions, a read-only file system, a full disk."""


class StoreCorruptError(StoreError):
    """Raised when the store's file is damaged, or is not a store at all."""


class StoreReplacedError(StoreCorruptError):
    """Raised when the store's file was replaced or removed while it was open: what is written is lost."""


class StoreVersionError(StoreError):
    """Raised when the store was written by a newer version of this library."""


class RedisForgetsError(StoreError):
    """Raised when a Redis server may lose what it stores (no AOF, an evicting policy), or does not report its settings.

    A call whose record was forgotten could be made twice. The message says what to set, and how to accept the risk.
    """


class UnknownBackendError(StoreError, ValueError):
    """Raised when no backend is registered for a store URL; it lists those that are."""


class VoiceError(VoiceflowError):
    """Raised about one request to 8x8."""


class CallRefusedError(VoiceError):
    """Raised when 8x8 answered NOT_CREATED: nobody was called. `code` is the 8x8 status code."""

    def __init__(self, message: str, *, code: int | None) -> None:
        self.code = code
        super().__init__(message)


class CallNotSentError(VoiceError):
    """Raised when provably nothing left, or 8x8 turned it away unread (401, 429, …): nobody was called."""


class CallInDoubtError(VoiceError):
    """Raised when the call may have been placed: do not send it again; wait for its summary or look for evidence."""

    def __init__(self, message: str, *, client_request_id: str) -> None:
        self.client_request_id = client_request_id
        super().__init__(message)


class CallLogError(VoiceError):
    """Raised when the log export of 8x8 could not be read; nothing was changed."""


class CallLogUnavailableError(CallLogError):
    """Raised when 8x8 could not be reached for its log, or asked to come back later. Try again, after `retry_after`."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RequestFailedError(VoiceError):
    """Raised when a request that places no call failed; `status` is the HTTP status, `remedy` a clause or empty."""

    def __init__(self, message: str, *, status: int | None = None, remedy: str = "") -> None:
        self.message = message
        self.status = status
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)


class VoiceUnavailableError(RequestFailedError):
    """Raised when 8x8 could not be reached, or asked to come back later. Try again, after `retry_after`."""

    def __init__(
        self, message: str, *, status: int | None = None, remedy: str = "", retry_after: timedelta | None = None
    ) -> None:
        self.retry_after = retry_after
        super().__init__(message, status=status, remedy=remedy)


def _moment(at: datetime) -> str:
    """The time as `model.text.moment` writes it, rounded up to a second. Nothing is imported here."""
    if at.microsecond:
        at = at.replace(microsecond=0) + timedelta(seconds=1)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
