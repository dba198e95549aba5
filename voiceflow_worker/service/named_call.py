"""One call as programs ask for it: fields with the names of the options of commands, which are read as there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from voiceflow_worker.campaigns.campaign import options_of, read_fields
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.lists.columns import DESTINATION
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.errors import (
    CallFlowError,
    KeyConflict,
    KeyConflictError,
    OtherRequestError,
    PhoneNumberError,
)
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import canonical_json, is_list, is_object
from voiceflow_worker.model.jobs.job import Job, usual_key
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.queue import CallQueue

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

WORDS: Final = ("say", "flow", "ivr")
_NAMES = {"destination": "to", "batch_id": "batch"}
"""The names of fields, by those of the columns of a file."""
_COLUMNS = {"destination": "to", "language": "language"}
_NO_BATCH = "-"
_FURTHER = "further_numbers_"
"""The beginning of the columns with the further numbers of the person."""


def request_digest(document: object) -> str:
    """Return a digest of a request: of its canonical form, in which nulls are dropped and numbers are as read."""
    return hashlib.sha256(canonical_json(_without_nulls(document)).encode()).hexdigest()[:32]


def _without_nulls(value: object) -> object:
    if is_object(value):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if is_list(value) else value


class NamedCall:
    """One call that was asked for: its `fields`, and the unique `key` with which it is asked for again.

    Two requests are the same if their fields are, as JSON: neither the order of names, nor how a number is written,
    nor what a field means at that time makes a difference. The `digest` says so.
    """

    def __init__(self, fields: Mapping[str, Any], *, key: str) -> None:
        self.fields: Mapping[str, Any] = fields
        self.key: str = key
        self.digest: str = request_digest(fields)

    def checked(
        self, *, settings: Settings | None = None, menus: Mapping[str, Menu] | None = None, now: datetime
    ) -> CheckedCall:
        """Return the call, completed by the settings. `ivr` names one of `menus`.

        Raises CallFlowError, whose findings have the names of the fields, and InvalidInputError.
        """
        call = read_call(self.fields, key=self.key, settings=settings, menus=menus, now=now, foreign=True)
        return call._replace(digest=f"{call.digest}{_MARK}{self.digest}")

    async def enqueue(
        self,
        queue: CallQueue,
        *,
        settings: Settings | None = None,
        menus: Mapping[str, Menu] | None = None,
        threads: anyio.CapacityLimiter | None = None,
    ) -> tuple[Job, bool]:
        """Return the job of this call, and whether it is new: the same key with the same request has one job.

        The digest of the request is stored with the job, in one write, and kept as long as the key. With `threads`, the
        call is checked in one of them. Raises KeyConflictError if the key belongs to another request, OtherRequestError
        if it belongs to a call that was not enqueued in this way, and the errors of `checked`, SuppressedNumberError,
        StoreError.
        """
        check = partial(self.checked, settings=settings, menus=menus, now=queue.store.clock.now())

        async def made() -> CheckedCall:
            return check() if threads is None else await anyio.to_thread.run_sync(check, limiter=threads)

        if (owner := await self._owner(queue)) is not None:
            await confirm(queue.store)
            return owner, False
        try:
            (found,) = await queue.admitter.admit_all([await made()], takes_ended=True)
            if found.created:
                return found.job, True
        except CallFlowError as error:
            raise CallFlowError([_renamed(each) for each in error.findings]) from None
        except KeyConflictError:  # somebody was quicker, with another body
            pass
        if (owner := await self._owner(queue)) is None:
            raise OtherRequestError(
                f"unique key {self.key!r} belongs to a call that was erased with its person; nothing was enqueued. Use "
                "a new key for a new call"
            )
        return owner, False

    async def _owner(self, queue: CallQueue) -> Job | None:
        """Return the call under the key, if it is that of this request; None if there is none."""
        job = (await owners_of(queue.store, [self.key])).get(self.key)
        if job is not None and not self._is_same(job):
            raise KeyConflictError([KeyConflict(0, self.key, job.id)])
        return job

    def _is_same(self, job: Job) -> bool:
        """Return whether the job with this key is that of this request. Raises OtherRequestError if nobody can tell."""
        digest = job.body_digest.partition(_MARK)[2]
        if not digest:
            raise OtherRequestError(
                f"unique key {self.key!r} belongs to call {job.id}, which was enqueued in another way, so it "
                "cannot be compared with this one. Nothing was enqueued. Check that call, or use a new key"
            )
        return digest == self.digest


_MARK = "."
"""The sign in a job's digest between that of its body and that of the request for it."""


def read_call(
    fields: Mapping[str, Any],
    *,
    key: str,
    settings: Settings | None = None,
    menus: Mapping[str, Menu] | None = None,
    now: datetime,
    named: Callable[[str], str] = str,
    foreign: bool = False,
) -> CheckedCall:
    """Return the call with these fields, completed by the settings, under this unique key: see `Campaign.of`.

    Without `to`, a `flow` calls its own number; from another computer (`foreign`), `to` is needed. Raises
    CallFlowError, whose findings have the names of the fields, InvalidInputError and CampaignFileError.
    """
    given, flow = dict(fields), fields.get("flow")
    if is_object(flow):
        given["batch"] = given.get("batch") or flow.get("clientBatchId")
    reading = read_fields(Of.CALL, given, settings=settings, menus=menus, now=now, named=named, foreign=foreign)
    if not reading.has("to") and (foreign or not reading.has("flow")):
        reading.problem("to", "is missing; give the number to call")
    if not (words := [name for name in WORDS if reading.has(name)]):
        reading.problem("", "the call has no text: give one of say, flow and ivr")
    read = options_of(reading)
    if reading.problems and reading.has("to"):  # all that is wrong is reported at once
        try:
            read_number(str(reading.value("to")), reading.value("country"))
        except PhoneNumberError as error:
            reading.problem("to", str(error))
    reading.refuse(*pairwise(words), ("flow", "further_numbers"))
    row: dict[str, object] = dict(reading.value("flow") or {})
    row |= {column: reading.value(name) for column, name in _COLUMNS.items() if reading.has(name)}
    further = {f"{_FURTHER}{place}": number for place, number in enumerate(reading.value("further_numbers") or ())}
    if further:
        row |= further
        read = replace(read, columns={DESTINATION: [DESTINATION, *further]})
    options = replace(read, batch_id=read.batch_id or _NO_BATCH)
    (found,) = CampaignRows([row], options, now=now)
    if found.call is None:
        raise CallFlowError([_renamed(each, named) for each in found.findings])
    data = {name: value for name, value in (found.call.data or {}).items() if name not in further} or None
    batch_id = None if read.batch_id is None else found.call.batch_id
    return found.call._replace(unique_key=usual_key(key), batch_id=batch_id, data=data)


def _renamed(found: Finding, named: Callable[[str], str] = str) -> Finding:
    """Return a finding about a row, as one about the fields of a call."""
    name = found.column
    if name is not None and name.startswith(_FURTHER):
        name = _FURTHER.rstrip("_")
    column = None if name is None else named(_NAMES.get(name, name))
    return replace(found, file=None, row=None, column=column)
