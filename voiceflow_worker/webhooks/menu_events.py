"""The answers of menus to call action events (VCA). An answer is stored before it is sent, and made once."""

from __future__ import annotations

import hashlib
import logging
import secrets
import traceback
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.progress import CallProgress, LastFailure, last_failures
from voiceflow_worker.errors import StoreError, StoreUnavailableError
from voiceflow_worker.ivr.caller import Caller, Position
from voiceflow_worker.ivr.check import reachable
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.menu_data import written_menus
from voiceflow_worker.ivr.menus import HANDLER_LIMIT, MenuReply, MenuResult, Menus
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction
from voiceflow_worker.service.metrics import IVR_ANSWERS
from voiceflow_worker.webhooks.menu_calls import Bridges, MenuCall, MenuCalls

ANSWERS = "ivr-answer"
LEASES = "ivr-claim"

KEPT = timedelta(hours=4)
"""The time for which an answer is kept. It is ample: an event is repeated within seconds, and a call lasts at most an
hour."""

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.2


class AnswersOnce:
    """The stored answers to events. Every receiver gives the answer that was stored first.

    A receiver leases an event before it runs a handler. A lease lasts `lease_for`, which is longer than the time limit
    of a handler. If the receiver crashes or cannot store its answer, another receiver can lease the event when the
    lease has ended, and then runs the handler again. Otherwise the handler runs once.
    """

    def __init__(self, store: Store, *, lease_for: timedelta) -> None:
        self._clock = store.clock
        self._lease_for = lease_for
        self._answers = text_records(store, ANSWERS, keep_for=KEPT)
        self._leases = text_records(store, LEASES, keep_for=lease_for)

    async def known(self, key: str) -> bytes | None:
        """Return the stored answer to this event; None if there is none."""
        found = (await self._answers.get([key])).get(key)
        return None if found is None else found.encode()

    async def turn(self, key: str) -> bytes | None:
        """Lease this event, or wait for the answer of the receiver that has leased it.

        Returns that answer, or None if this receiver has the lease, and must answer. Raises StoreUnavailableError
        after a wait of twice `lease_for`.
        """
        mine = secrets.token_hex(8)
        gives_up = self._clock.monotonic() + 2 * self._lease_for.total_seconds()
        wait = _FIRST_LOOK
        while True:
            standing = await self._leases.add({key: mine})
            # Read even with the lease, because the previous receiver may have answered just before its lease ended.
            answer = await self.known(key)
            if answer is not None or standing.get(key) == mine:
                return answer
            if self._clock.monotonic() >= gives_up:
                raise StoreUnavailableError("another receiver has leased this event, and has not answered it in time")
            await self._clock.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_LOOK)

    async def keep(self, key: str, answer: bytes) -> bytes:
        """Store the answer to an event that has none; returns the stored one, which may come from another receiver."""
        stored = (await self._answers.add({key: answer.decode()}))[key]
        return answer if stored is None else stored.encode()


_log = structlog.get_logger("voiceflow.ivr")

STORING = timedelta(seconds=1)
"""The time allowed for storing an answer. A lease of an event lasts for the time limit of a handler plus this time."""
IN_ALL = timedelta(seconds=4, milliseconds=500)
"""The time for the waits before a handler (one is for another receiver that has leased the event), and for the handler
itself."""
AT_LEAST = timedelta(seconds=1)
"""The time that a handler has even after long waits, unless its own limit is shorter."""
MOST_WRITTEN = 100
"""The most menus of data that a receiver keeps at hand. Others are read again."""
FRAMES = 4
"""The number of stack frames that are logged when a handler fails."""

_NO_FAULT = frozenset({MenuResult.NO_MENU, MenuResult.NOT_BRIDGED})
_NOBODY = Caller(now=datetime.min.replace(tzinfo=UTC))


class MenuEvents:
    """The handler that answers call action events with menus.

    Calls begin in one of `menus`: in the menu that the job names, or else in the first. The questions of a menu of data
    are its own, whatever others are called. `policy` must be the workers' policy. `handler_limit` is the time limit of
    a handler. The metrics go to `registry`.

    Any number of receivers may answer for one store, because all state is in the store. The same event gets the same
    answer, byte for byte, and its handler runs once. After a crash during the handler, or a failure of the store, the
    handler may run again. Key presses are stored before the answer is sent. Raises InvalidInputError if two menus have
    the same name.
    """

    def __init__(
        self,
        store: Store,
        *menus: Menu,
        policy: CallPolicy,
        registry: CollectorRegistry,
        handler_limit: timedelta = HANDLER_LIMIT,
    ) -> None:
        self.menu_names: tuple[str, ...] = tuple(menu.name for menu in reachable(menus))
        in_code = (menu for menu in menus[1:] if not menu.definition)
        self.menus: Menus = Menus(*menus[:1], *in_code, handler_limit=handler_limit)
        self._store = store
        self._policy = policy
        self._menu_calls = MenuCalls(store, policy)
        self._bridges = Bridges(store, policy)
        self._progress = CallProgress(store)
        self._once = AnswersOnce(store, lease_for=handler_limit + STORING)
        self._answers = IVR_ANSWERS.on(registry)
        self._limit = handler_limit
        self._definitions = written_menus(store)
        self._written = {each.name: Menus(each, handler_limit=handler_limit) for each in menus[1:] if each.definition}

    async def __call__(self, event: CallAction) -> bytes:
        """Return the answer to an event. Raises StoreError and StaleJobError."""
        key = key_of(event)
        # If the event alone shows that a handler will run, the event is leased while the job is being read.
        leases = event.client_action_id is not None and self.menus.decide(event, _NOBODY).runs_code
        began = self._store.clock.monotonic()
        recall = self._once.turn if leases else self._once.known
        call, given = await gather(partial(self._menu_calls.find, event), partial(recall, key))
        menus = await self._menus_of(event, call)
        decision = menus.decide(event, self._caller(event, call, key))
        if given is None and decision.runs_code and not leases:
            given = await self._once.turn(key)
        waited = timedelta(seconds=self._store.clock.monotonic() - began)
        limit = min(self._limit, max(IN_ALL - waited, AT_LEAST))
        if given is not None:
            self._answers.labels(MenuResult.REPEATED.value).inc()
            if decision.press is not None:
                # The receiver that answered first may have crashed before it stored the key press.
                await self._menu_calls.pressed(call, decision.press, session_id=event.session_id)
            return given
        answer = await menus.answer(decision, limit=limit)
        if called := answer.flow.destinations:
            refusal = await self._bridges.refusal(called, call=call, session_id=event.session_id)
            if refusal is not None:
                answer = menus.not_bridged(decision, refusal)
        await self._log_trouble(answer, call, event)
        if decision.press is not None:
            await self._menu_calls.pressed(call, decision.press, session_id=event.session_id)
        given = await self._once.keep(key, answer.body)
        self._answers.labels(answer.result.value).inc()
        return given

    async def _menus_of(self, event: CallAction, call: MenuCall) -> Menus:
        """Return the menus that a call is in: those of this receiver, or one of data, which the store has."""
        position = Position.read(event.client_action_id or "")
        first = position.path[0] if position is not None else None
        name = first if call.job is None else call.job.menu
        if name is None or self.menus.has(name):
            return self.menus
        if name not in self._written:
            menu = (await self._definitions.get([name])).get(name)
            if menu is None:
                return self.menus
            if len(self._written) >= MOST_WRITTEN:
                self._written.pop(next(iter(self._written)))
            self._written[name] = Menus(menu, handler_limit=self._limit)
        return self._written[name]

    def _caller(self, event: CallAction, call: MenuCall, key: str) -> Caller:
        received = event.direction is None and event.call_status is ActionStatus.CALL_RECEIVED
        is_inbound = event.direction is Direction.INBOUND or received
        number, ours = (event.source, event.destination) if is_inbound else (event.destination, event.source)
        job, post = call.job, None if call.job is None or call.number is None else call.job.post(call.number)
        return Caller(
            now=self._store.clock.now(),
            number=number if job is None or post is None else job.number_of(post),
            our_number=ours if job is None else job.source,
            is_inbound=is_inbound,
            data=(None if job is None else job.data) or {},
            presses=call.presses,
            session_id=event.session_id,
            event_id=event.event_id or key,
            job=job,
            store=self._store,
            policy=self._policy,
        )

    async def _log_trouble(self, answer: MenuReply, call: MenuCall, event: CallAction) -> None:
        if answer.trouble is None:
            return
        _log.log(
            _level(answer.result, call),
            "a menu could not go on: the caller got its fallback or a hang-up",
            job=None if call.job is None else call.job.id,
            session=event.session_id,
            menu=answer.decision.menu or None,
            result=answer.result.value,
            reason=answer.trouble,
            where=None if answer.error is None else _where(answer.error),
        )
        with suppress(StoreError):  # the person on the line gets an answer
            if event.session_id is not None:
                await self._progress.failure(event.session_id, menu=answer.decision.menu or "", reason=answer.trouble)
            if _level(answer.result, call) > logging.INFO:
                job = call.job
                menu = answer.decision.menu or (job.menu if job is not None else None) or "?"
                last = LastFailure(menu=menu, at=self._store.clock.now(), job_id=None if job is None else job.id)
                await last_failures(self._store).put({menu: last})


def _level(result: MenuResult, call: MenuCall) -> int:
    """Return the log level for a menu that could not go on: an error for a failure, else information.

    It is a warning if the job's menu is not served here, because the campaign then loses the answers of its people.
    """
    if result is MenuResult.NO_MENU and call.job is not None and call.job.menu is not None:
        return logging.WARNING
    return logging.INFO if result in _NO_FAULT else logging.ERROR


def _where(error: BaseException) -> str:
    """Return the stack of an error as text, innermost frame first.

    A traceback is not logged, because some log renderers print the variables of each frame. These variables may hold
    the person's number, and the keys pressed at a secret menu.
    """
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return " < ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames))


def key_of(event: CallAction) -> str:
    """Return the key of an event: its session and id; without an id, session, position, status and digits."""
    identity = (
        ("id", event.event_id) if event.event_id else ("at", event.client_action_id, event.call_status, event.dtmf)
    )
    parts = "\0".join(str(part) for part in (event.session_id, *identity))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
