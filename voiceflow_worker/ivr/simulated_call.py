"""A call through menus without a phone, a store or a server: for tests of menus, and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import Caller, CallPhase, Position
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.menus import Decision, MenuReply, Menus
from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.events import CallAction


@dataclass(frozen=True, slots=True)
class Prompt:
    """One answer as the caller hears it: its texts and the addresses of recordings, in order.

    `menu` asks now; None if none does. `connected_to` is the number of a bridge, and `trouble` describes a failure.
    """

    texts: tuple[str, ...]
    menu: str | None
    connected_to: str | None
    trouble: str | None
    reply: MenuReply

    @property
    def text(self) -> str:
        """Text that the caller hears."""
        return " ".join(self.texts)

    @property
    def has_ended(self) -> bool:
        """True if no menu asks: the call has ended, or another party was called."""
        return self.menu is None


class SimulatedCall:
    """A simulated call through a menu, for tests: `call = SimulatedCall(main, data={"name": "Ana"})`.

    `(await call.begin()).text` is the first answer, and `(await call.press("1")).menu` the next menu; with `press("")`
    nothing is pressed in time. Handlers run as they do in a call, at the time `at`, with `store` in `caller.store`.
    `numbers` are those of the caller and of the account.
    """

    def __init__(
        self,
        menu: Menu,
        *,
        data: Mapping[str, object] | None = None,
        at: datetime | None = None,
        numbers: tuple[str, str] = ("+6587654321", "+6531234567"),
        is_inbound: bool = False,
        store: Store | None = None,
    ) -> None:
        self._menu = menu
        self._menus = Menus(menu)
        number, ours = numbers
        now = at or datetime.now(UTC)
        self._caller = Caller(
            now=now, number=number, our_number=ours, data=data or {}, is_inbound=is_inbound, session_id="simulated",
            store=store,
        )  # fmt: skip
        self._position: Position | None = None

    @property
    def presses(self) -> Sequence[KeyPress]:
        """Keys pressed so far, in the form in which a job stores them."""
        return self._caller.presses

    @property
    def answer(self) -> str | None:
        """Person's answer so far: the name of the last keys that have one."""
        return next((press.answer for press in reversed(self.presses) if press.answer is not None), None)

    async def begin(self) -> Prompt:
        """Begin the call: with the menu's opening, if any, else with its question."""
        self._caller = replace(self._caller, presses=())
        return await self._next(self._menus.first_question(self._menu, self._caller))

    async def press(self, keys: str) -> Prompt:
        """Press these keys, and return the answer; with an empty text, nothing is pressed in time.

        Raises InvalidInputError if no question waits for keys.
        """
        if self._position is None or self._position.phase not in {CallPhase.ASKED, CallPhase.STEPPING}:
            raise InvalidInputError("no question waits for keys: begin() a call")
        # Texts before the question are over when the caller presses keys, or none.
        asked = replace(self._position, phase=CallPhase.ASKED)
        event = CallAction(dtmf=keys.strip() or None, client_action_id=asked.write())
        decision = self._menus.decide(event, self._caller)
        prompt = await self._next(decision)
        if decision.press is not None:
            self._caller = replace(self._caller, presses=(*self._caller.presses, decision.press))
        return prompt

    async def _next(self, decision: Decision) -> Prompt:
        reply = await self._menus.answer(decision)
        actions = [read_action(entry) for entry in reply.flow.actions]
        texts = [text for action, params in actions if (text := wording(action, params)) is not None]
        connected = [cast("str", params.get("destination")) for action, params in actions if action is Action.MAKE_CALL]
        self._position = position = Position.read(reply.flow.client_action_id or "")
        asks = position is not None and position.phase in {CallPhase.ASKED, CallPhase.STEPPING}
        menu = position.path[-1] if position is not None and asks else None
        return Prompt(tuple(texts), menu, connected[-1] if connected else None, reply.trouble, reply)
