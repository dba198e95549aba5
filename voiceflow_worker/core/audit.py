"""The audit log: every action of people, with who ordered it, when, from which interface, on what, and its result.

An entry is stored in the same write as what its action changes (`AuditedStore`). So no action is without an entry, also
if the process dies just after it. The entry then has no result: that follows in a second write.

An entry is in several groups of records: in that of the whole log, and in those of its queue, its batch and its
call. In each group the newest comes first, so the last entries about anything are one page. Entries end by themselves.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from getpass import getuser
from typing import Any, cast

import anyio
import structlog

from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.record_set import json_codec, json_records, newest_first, report_unreadable
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Insert,
    Mode,
    Put,
    Record,
    Result,
    Same,
    Store,
    Write,
    WriteResult,
)
from voiceflow_worker.errors import (
    StoreError,
    VoiceflowError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import LONGEST_NAME, in_words, rfc3339

AUDIT, CALL = "audit", "call"
"""The namespace of entries; and the action by which somebody orders a single call."""
KEPT = timedelta(days=400)
LATEST = 10
PAGE = 500
MOST_NAMED = 20
"""The most telephone numbers that an entry names; the result says how many there were."""
WHOLE = "*"
"""The group of all entries. No queue has this name."""
NOT_KNOWN = "its result was not stored"
_log = structlog.get_logger("voiceflow.audit")


class Interface(StrEnum):
    """Where somebody ordered something."""

    COMMAND = "command"
    PAGES = "pages"
    PYTHON = "Python"
    AIRFLOW = "Airflow"
    API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who orders something, `on` which interface.

    `login` is what the system knows: the login of a user, the name of an API secret, the DAG and its run. `name` is
    what the person said, such as by `--as`. `key` is the Idempotency-Key of the request.
    """

    on: str = Interface.PYTHON
    login: str | None = None
    name: str | None = None
    key: str | None = None

    @property
    def called(self) -> str:
        """Name for people, or else the login."""
        return self.name or self.login or "a person"

    @classmethod
    def of(cls, by: str | Actor | None) -> Actor:
        """Return `by` if it is an actor, else a program of this user that acts for `by`."""
        return by if isinstance(by, Actor) else cls(login=login_name(), name=by)


def login_name() -> str | None:
    """Return the login name of this process, and the user behind sudo; None if nobody knows it."""
    try:
        login = getuser()
    except (KeyError, OSError):
        return None
    sudo = printable_line(os.environ.get("SUDO_USER", ""))[:LONGEST_NAME]
    return f"{login}, sudo by {sudo}" if sudo and sudo != login else login


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One action of a person. `by` is the login, and `name` what the person said (`Actor`).

    `queue`, `batch`, `call` and `numbers` say what it was about. Without a `result`, the process died before
    it knew. `key` is that of the actor.
    """

    at: datetime
    action: str
    on: str
    by: str | None = None
    name: str | None = None
    queue: str | None = None
    batch: str | None = None
    call: str | None = None
    numbers: tuple[str, ...] = ()
    note: str | None = None
    result: str | None = None
    key: str | None = None
    id: str = ""

    @classmethod
    def of(
        cls,
        actor: Actor,
        action: str,
        *,
        at: datetime,
        note: str | None = None,
        queue: str | None = None,
        batch: str | None = None,
        call: str | None = None,
        numbers: Sequence[str] = (),
        result: str | None = None,
    ) -> AuditEntry:
        """Return the entry of an order, with a new id.

        `result` is for an action that has one alone, if it is stored at all.
        """
        return cls(
            at=at, action=action, on=actor.on, by=actor.login, name=actor.name, note=note or None, queue=queue,
            batch=batch, call=call, numbers=tuple(numbers[:MOST_NAMED]), result=result, key=actor.key,
            id=f"{newest_first(at)}.{new_revision()}",
        )  # fmt: skip

    @property
    def who(self) -> str:
        """Name that the person gave, with the login."""
        if self.name and self.by and self.name != self.by:
            return f"{self.name} (login {self.by})"
        return self.name or self.by or "a person"

    def in_words(self) -> str:
        """Return the action in one line."""
        result = self.result or NOT_KNOWN
        note = f" ({self.note})" if self.note and self.note not in result else ""
        return f"{in_words(self.at)} {self.action} by {self.who}, {self.on}: {result}{note}"

    def as_json(self) -> dict[str, object]:
        """Return the entry as JSON, for scripts."""
        return {
            "id": self.id,
            "at": rfc3339(self.at),
            "action": self.action,
            "on": self.on,
            "by": self.by,
            "as": self.name,
            "queue": self.queue,
            "batch_id": self.batch,
            "call_id": self.call,
            "numbers": list(self.numbers),
            "note": self.note,
            "idempotency_key": self.key,
            "result": self.result,
        }

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of records in which the entry is."""
        subjects = (WHOLE, self.queue, _group_of(self.queue, self.batch), self.call)
        return tuple(dict.fromkeys(each for each in subjects if each is not None))

    def puts(self, *, mode: Mode = Mode.ALWAYS) -> tuple[Put, ...]:
        """Return the records of the entry."""
        text = json_codec(AuditEntry).text(self)
        return tuple(Put(AUDIT, group, text, self.at + KEPT, mode, self.id) for group in self.groups)


def _group_of(queue: str | None, batch: str | None) -> str | None:
    return None if batch is None else f"{queue}={batch}"


class AuditedStore:
    """A store for one action: its first write that changes anything keeps the entry of the action too.

    In all else it is the store itself. The parts of a bulk write are written one by one until one of them is stored,
    because each may be refused alone: that one has the entry, under the condition that it is not there. So a repeat of
    it, however late, finds that it was written before.
    """

    def __init__(self, store: Store, entry: AuditEntry) -> None:
        self._store = store
        self._first_one = anyio.Lock()
        self.entry: AuditEntry = entry
        self.is_kept: bool = False
        """Whether the entry is stored."""
        self.result: str | None = None
        """The result of the action, to be stored when it has ended (`audited`)."""

    @property
    def store(self) -> Store:
        """Object itself, typed as a store."""
        return cast("Store", self)

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Write, with the entry."""
        answers = list[WriteResult]()
        try:
            while not self.is_kept and len(answers) < len(bulk.writes):
                async with self._first_one:
                    if not self.is_kept:
                        answers.append(await self._first(replace(bulk, writes=(bulk.writes[len(answers)],)), now))
            if len(answers) < len(bulk.writes):
                answers += await self._store.write(replace(bulk, writes=bulk.writes[len(answers) :]), now=now)
        except StoreError as error:
            given = [*answers, *error.answers]
            error.answers = [*given, *[None] * (len(bulk.writes) - len(given))] if given else ()
            raise
        return answers

    async def _first(self, bulk: BulkWrite, now: datetime) -> WriteResult:
        """Write one part, with the entry if it changes anything."""
        (write,) = bulk.writes
        changes = bool(write.changes or write.puts or write.drops)
        if changes:
            made = [each.job for each in write.changes if isinstance(each, Insert)]
            if self.entry.action == CALL and len(made) == 1:
                self.entry = replace(self.entry, batch=made[0].batch_id, call=made[0].id, numbers=made[0].numbers)
            conditions = (Same(AUDIT, WHOLE, None, self.entry.id), *write.conditions)
            write = replace(write, conditions=conditions, puts=(*write.puts, *self.entry.puts()))
            bulk = replace(bulk, writes=(write,), durable=True)
        (answer,) = await self._store.write(bulk, now=now)
        self.is_kept = changes and answer.result is Result.DONE
        return answer

    async def finish(self, result: str) -> None:
        """Store the result of the action with its entry. If the store fails, this is logged: the action itself is done.

        An entry from which a person was erased since stays as it is.
        """
        as_kept = Same(AUDIT, WHOLE, json_codec(AuditEntry).text(self.entry), self.entry.id)
        write = Write(conditions=(as_kept,), puts=replace(self.entry, result=result).puts())
        try:
            await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now())
        except StoreError as error:
            _log.warning("the result of an action was not stored", action=self.entry.action, error=str(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@asynccontextmanager
async def audited(store: Store, entry: AuditEntry) -> AsyncGenerator[AuditedStore]:
    """Yield a store for one action: its first write keeps the entry, and the `result` of the block follows.

    An action within another one belongs to that: it gets the same store. An error is the result, if anything was
    stored before it. An order whose answer was lost is given again, as an order with an entry of its own.
    """
    if isinstance(store, AuditedStore):
        yield store
        return
    within = AuditedStore(store, entry)
    try:
        yield within
    except VoiceflowError as error:
        if within.is_kept:
            await within.finish(f"failed: {error}")
        raise
    if not within.is_kept:
        await confirm(store)  # it has found what it would have written
    elif within.result is not None:
        await within.finish(within.result)


async def entries_on(
    store: Store, queue: str | None = None, *, batch: str | None = None, call: str | None = None, limit: int = LATEST
) -> list[AuditEntry]:
    """Return the last actions on a call, a batch, a queue or anything, the newest first. Raises StoreError."""
    group = call or _group_of(queue, batch) or queue or WHOLE
    return await read_page(store, group=group, limit=limit)


async def read_page(store: Store, *, group: str = WHOLE, after: str = "", limit: int = PAGE) -> list[AuditEntry]:
    """Return one page of the log, the newest first; `after` is the id of the last entry of the page before it."""
    records = json_records(store, AUDIT, AuditEntry, keep_for=KEPT).within(group)
    found = await records.page(after=after, limit=limit)
    return [replace(entry, id=key) for key, entry in found if entry is not None]


def entries_of(records: Sequence[Record | Put]) -> list[AuditEntry]:
    """Return the entries in records of the log, or in their puts, without those that cannot be read."""
    found: list[AuditEntry] = []
    for record in records:
        try:
            found.append(replace(json_codec(AuditEntry).value(record.value), id=record.member))
        except ValueError as error:
            report_unreadable(f"{AUDIT} {record.member}", error)
    return found


async def read_log(
    store: Store, *, since: datetime | None = None, by: str | None = None
) -> AsyncGenerator[Sequence[AuditEntry]]:
    """Yield pages of the log, the newest first; with `by`, only what this login or name ordered. Raises StoreError.

    Upper and lower case are the same in `by`.
    """
    after, wanted = "", None if by is None else by.casefold()
    while page := await read_page(store, after=after):
        new = [entry for entry in page if since is None or entry.at >= since]
        yield [
            entry
            for entry in new
            if wanted is None or wanted in {each.casefold() for each in (entry.by, entry.name) if each}
        ]
        if len(new) < len(page):
            return
        after = page[-1].id
