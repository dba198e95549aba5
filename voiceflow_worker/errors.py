"""The errors of this library, as a tree whose root is `VoiceflowError`. `docs/reference.md` has the remedy of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from voiceflow_worker.finding import Finding


class VoiceflowError(Exception):
    """The root of all errors of this library."""

    def __reduce__(self) -> tuple[object, ...]:
        """Return what a copy is made of: the message and the attributes, without a constructor."""
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[VoiceflowError], args: tuple[object, ...]) -> VoiceflowError:
    error = kind.__new__(kind)
    error.args = args
    return error


class InvalidInputError(VoiceflowError):
    """Raised when an input is wrong; nothing was stored or sent. `findings` lists what is wrong, if it has parts."""

    findings: tuple[Finding, ...] = ()

    def found(self, *findings: Finding) -> Self:
        """Return this error, with these findings."""
        self.findings = findings
        return self


class CallFlowError(InvalidInputError, ValueError):
    """Raised when a call flow breaks rules of the 8x8 contract. `findings` lists every problem."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        count = len(self.findings)
        self.headline: str = f"the call flow has {count} problem{'s' if count != 1 else ''}"
        lines = "\n".join(f"  {finding}" for finding in self.findings)
        super().__init__(f"{self.headline}:\n{lines}")


class PhoneNumberError(InvalidInputError, ValueError):
    """Raised when a text is not a callable telephone number. `code` is -1011 if it has several numbers, else -1017.

    `kind` is `no_country` if it does not say its country, and else None.
    """

    def __init__(self, message: str, *, code: int = -1017, kind: str | None = None) -> None:
        self.code = code
        self.kind = kind
        super().__init__(message)


class CampaignFileError(InvalidInputError):
    """Raised when a file cannot be read as a campaign. `findings` lists every reason.

    `columns` are those of a table of which only the column of the numbers to call is not known, and `sheets` those of
    a workbook of which only the sheet is not known.
    """

    def __init__(
        self,
        message: str,
        findings: Sequence[Finding] = (),
        *,
        columns: Sequence[str] = (),
        sheets: Sequence[str] = (),
    ) -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        self.columns: tuple[str, ...] = tuple(columns)
        self.sheets: tuple[str, ...] = tuple(sheets)
        super().__init__(message)


class WebhookEventError(InvalidInputError, ValueError):
    """Raised when a webhook body is not an event of 8x8: not an object, or without a payload."""


class NotificationError(InvalidInputError, ValueError):
    """Raised when a notification has a wrong signature or is too old. Answer it with 400."""


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """A unique key that the job `owner_id` already has. `index` is the place of the new call in the list, from 0.

    In the fields that `differs` names, that job is not as the new call; `state` is its state.
    """

    index: int
    unique_key: str
    owner_id: str
    differs: tuple[str, ...] = ()
    state: str = ""


class KeyConflictError(InvalidInputError):
    """Raised when a unique key belongs to another call, or to one that ended without a ring; nothing was enqueued."""

    def __init__(self, conflicts: Iterable[KeyConflict], *, replaces: bool = False) -> None:
        self.conflicts: tuple[KeyConflict, ...] = tuple(conflicts)
        first = self.conflicts[0]
        more = f" (and {len(self.conflicts) - 1} more)" if len(self.conflicts) > 1 else ""
        other = "rang nobody" if first.state else "has another body"
        what = f"has another {' and '.join(first.differs)}" if first.differs else other
        if first.state in _WAITING and first.differs:
            remedy = "" if replaces else "With replace=True, it is changed while it waits. "
        else:
            remedy = "Redial that call, or import its row again with the option `again`. "
        if {"not_before", "valid_until"} & {*first.differs}:
            remedy += "A time that is computed again differs at each try: give valid_for in its place. "
        super().__init__(
            f"unique key {first.unique_key!r} belongs to call {first.owner_id}, which is "
            f"{first.state or 'another request'} and {what}{more}; nothing was enqueued. {remedy}Use a new key for a "
            "new call"
        )


_WAITING = frozenset({"queued", "leased"})


class OtherRequestError(InvalidInputError):
    """Raised when a key belongs to another request, or to one that cannot be compared; nothing was enqueued."""


@dataclass(frozen=True, slots=True)
class SuppressedNumber:
    """One call to a suppressed number. `index` is its place in the list of calls, from 0; `reason` is a clause."""

    index: int
    number: str
    reason: str


class SuppressedNumberError(InvalidInputError):
    """Raised when a number is on the suppression list; nothing was enqueued. `suppressed` lists the calls concerned."""

    def __init__(self, suppressed: Sequence[SuppressedNumber]) -> None:
        self.suppressed: tuple[SuppressedNumber, ...] = tuple(suppressed)
        first = self.suppressed[0]
        others = len(self.suppressed) - 1
        more = f" (and {others} more call{'s' if others > 1 else ''} to suppressed numbers)" if others else ""
        super().__init__(
            f"{first.number} is not called: {first.reason}{more}; nothing was enqueued. To call it, remove it "
            f"from the suppression list: `voiceflow suppress remove {first.number}`"
        )


class SettingsError(InvalidInputError):
    """Raised when a setting is missing or wrong. The message names the setting and its place."""


class ChangedSinceError(VoiceflowError):
    """Raised when what an action was to change is no longer as the person or program saw it. Nothing was changed."""


class UnreadFilesError(ChangedSinceError):
    """Raised when a queue stays held because journal files could not be read, and nobody said that they may stay so."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"queue {queue} is held because journal files could not be read, and calls in them might ring twice: look "
            "for them in the log of 8x8, or use the version that wrote the files. Then resume with --unread-files (in "
            "/v1: unread_files)"
        )


class OvertakenError(VoiceflowError):
    """Raised when what a start was to replace was replaced by a later one. Nothing more was changed."""


class IntakeError(VoiceflowError):
    """Raised when a list cannot be stored beside another import of its batch. What was stored before stays held."""


class TakenOverError(IntakeError):
    """Raised when another list has taken an import over, because it had written nothing for a minute."""

    def __init__(self, batch: str | None) -> None:
        super().__init__(
            f"this import of batch {batch or '-'} was taken over by another list, or was cancelled, so it was ended. "
            "Check the batch. Import the same list again: no call is added twice"
        )


class JobError(VoiceflowError):
    """Raised when an operation on one job fails. `job_id` is the id of the job."""

    def __init__(self, job_id: str, message: str) -> None:
        self.job_id = job_id
        super().__init__(message)


class JobNotFoundError(JobError):
    """Raised when no job has this id in this store."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, f"no call {job_id} in this store; check the id, the store and the queue")


class IllegalMoveError(JobError):
    """Raised when a job's state does not allow a move."""

    def __init__(self, job_id: str, *, state: str, move: str, remedy: str = "") -> None:
        self.state = state
        self.move = move
        super().__init__(job_id, f"call {job_id} is {state}: it cannot {move}{'; ' + remedy if remedy else ''}")


class TooLateError(IllegalMoveError):
    """Raised when a call cannot be cancelled, because it may have been sent already."""


class TooEarlyError(IllegalMoveError):
    """Raised when a call is resolved as not placed, but 8x8 may still place it, up to the time `until`."""

    def __init__(self, job_id: str, *, state: str, until: datetime) -> None:
        self.until = until
        super().__init__(
            job_id,
            state=state,
            move="yet be resolved as not placed",
            remedy=f"8x8 may still place this call until {_moment(until)}; try again after that",
        )


class StaleJobError(JobError):
    """Raised when a change was tried several times, and each time another process had changed the job first."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            job_id, f"call {job_id} was changed by another process meanwhile; read it again before the next change"
        )


class BatchTimeoutError(VoiceflowError, TimeoutError):
    """Raised when a wait for the end of a batch ended before the batch had ended. The batch itself is unchanged."""

    def __init__(self, batch_id: str, *, waited: timedelta) -> None:
        super().__init__(
            f"batch {batch_id} has not ended after {waited.total_seconds():g} s; wait again, or check its calls"
        )


class OutcomeTimeoutError(JobError, TimeoutError):
    """Raised when a wait for an outcome ended before the job had one.

    `state` is the last known state of the job, or None if the store could not be reached. The job itself is unchanged:
    wait again, or look at the job.
    """

    def __init__(self, job_id: str, *, state: str | None, waited: timedelta) -> None:
        self.state = state
        match state:
            case None:
                why = "the store could not be reached"
            case "in_doubt":
                why = "it is in_doubt and waits for evidence, or a person can resolve it"
            case _:
                why = f"it is {state}"
        super().__init__(job_id, f"call {job_id} has no outcome after {waited.total_seconds():g} s: {why}")


class RetryLaterError(VoiceflowError):
    """Raised when an outcome was not accepted: deliver it again when `after` has passed, or later."""

    def __init__(self, message: str, *, after: timedelta | None = None) -> None:
        self.after = after
        super().__init__(message)


class HookGoneError(VoiceflowError):
    """Raised when the receiver of outcomes wants no more of them."""


class StoreError(VoiceflowError):
    """Raised when the store fails or cannot be used."""

    passes: bool = False
    """Whether waiting may help. If not, somebody must first correct the cause."""
    answers: Sequence[Any] = ()
    """Of a step that failed: for each of its units the answer that the store gave, or None if it gave none."""
    in_public: ClassVar[str] = "the store failed"
    """The fault without the names of hosts, users and files that the message has, for answers to others."""


class StoreUnavailableError(StoreError):
    """Raised when the store cannot be reached or is locked. It is not known whether a change was stored: try again.

    To enqueue a call again is safe only with a unique key. `passes` is False if somebody must first correct the cause,
    such as a wrong password.
    """

    in_public: ClassVar[str] = "the store cannot be reached, or is locked"

    def __init__(self, message: str, *, passes: bool = True) -> None:
        self.passes = passes
        super().__init__(message)


class NoStoreError(StoreUnavailableError):
    """Raised when there is no store where the URL leads, and who opens it does not make one."""

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message, passes=passes)


class StoreReadOnlyError(StoreError):
    """Raised when the store cannot be written, because of permissions, a read-only file system or a full disk."""

    in_public: ClassVar[str] = "the store cannot be written"

    passes = True


class StoreFullError(StoreReadOnlyError):
    """Raised when the disk of the store is full. Nothing was changed."""

    in_public: ClassVar[str] = "the disk of the store is full: free space on it"


class JournalFileError(StoreReadOnlyError):
    """Raised when a worker cannot write its journal file, so that it sends nothing."""

    in_public: ClassVar[str] = (
        "a worker sends nothing: check the disk of its VOICEFLOW_STATE_DIR and the space on it, or name a folder on "
        "another disk"
    )


class StoreCorruptError(StoreError):
    """Raised when the store's file is damaged, is no store, or was replaced or removed while it was open."""

    in_public: ClassVar[str] = "the store is damaged, or was replaced"


class StoreVersionError(StoreError):
    """Raised for a store of another schema, or for a record in it that this version cannot read."""

    in_public: ClassVar[str] = "the store, or a record in it, is of another version of voiceflow-worker"


class UnreadableRecordError(StoreVersionError):
    """Raised for a record that this version cannot read: a newer version wrote it, or it is damaged.

    Of a call, `head` is what is known of it without its record: a `Job` with its state, number and body; else None.
    """

    head: Any = None


class StoreNotDurableError(StoreError):
    """Raised when a server may lose what it has confirmed (a Redis without AOF), or does not show its settings.

    A call whose record is lost could be made twice. The message names the settings to change, and explains how to
    accept the risk.
    """

    in_public: ClassVar[str] = "the server of the store may lose what it has confirmed, so it is not used"


class UnknownBackendError(StoreError, ValueError):
    """Raised when no backend is registered for a store URL. The message lists the registered backends."""


class VoiceError(VoiceflowError):
    """Raised when a request to 8x8 failed, or its result is unknown."""


class CallRefusedError(VoiceError):
    """Raised when 8x8 answered NOT_CREATED: nobody was called. `code` is the status code of 8x8."""

    def __init__(self, message: str, *, code: int | None) -> None:
        self.code = code
        super().__init__(message)


class CallNotSentError(VoiceError):
    """Raised when a call was certainly not sent, or 8x8 rejected it unread (401, 429, …): nobody was called."""


class CallInDoubtError(VoiceError):
    """Raised when a call may have been placed. Do not send it again: wait for its summary, or look in the 8x8 log."""

    def __init__(self, message: str, *, client_request_id: str) -> None:
        self.client_request_id = client_request_id
        super().__init__(message)


class CallLogError(VoiceError):
    """Raised when the log export of 8x8 could not be read; nothing was changed."""


class CallLogUnavailableError(CallLogError):
    """Raised when 8x8 could not be reached for its log, or asked for a later try. Try again after `retry_after`."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RequestFailedError(VoiceError):
    """Raised when a request that places no call failed; `status` is the HTTP status, `remedy` a clause or ""."""

    def __init__(self, message: str, *, status: int | None = None, remedy: str = "") -> None:
        self.message = message
        self.status = status
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)


class VoiceUnavailableError(RequestFailedError):
    """Raised when 8x8 could not be reached, or asked for a later try. Try again after `retry_after`."""

    def __init__(
        self, message: str, *, status: int | None = None, remedy: str = "", retry_after: timedelta | None = None
    ) -> None:
        self.retry_after = retry_after
        super().__init__(message, status=status, remedy=remedy)


def _moment(at: datetime) -> str:
    """Return the time rounded up to a second, in the form of `model.text.moment`."""
    if at.microsecond:
        at = at.replace(microsecond=0) + timedelta(seconds=1)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class MissingExtraError(VoiceflowError, ModuleNotFoundError):
    """Raised when something needs an extra of this distribution that is not installed. The message has the command."""


def require_extra(extra: str, *modules: str, what: str) -> None:
    """Raise MissingExtraError if one of the modules that an extra brings is not there. `what` needs them."""
    from importlib.util import find_spec

    if missing := [name for name in modules if find_spec(name) is None]:
        raise MissingExtraError(
            f"{what} an extra, because it lacks {', '.join(missing)}: pip install 'voiceflow-worker[{extra}]'"
        )
