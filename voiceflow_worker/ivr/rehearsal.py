"""A call through menus without a phone, a store or a server: for tests of menus, and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import BridgeResult, Caller, CallPhase, Position
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.menus import MenuAnswer, Menus, Plan
from voiceflow_worker.model.flows.actions import Action, read_action, wording
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.events import CallAction


@dataclass(frozen=True, slots=True)
class SpokenAnswer:
    """One answer as the caller hears it. `said` has the texts and the addresses of recordings, in order.

    `menu` is the name of the menu that asks now; None if none asks. `connected_to` is the number of a bridge, and
    `trouble` the description of a failure.
    """

    said: tuple[str, ...]
    menu: str | None
    connected_to: str | None
    trouble: str | None
    answer: MenuAnswer

    @property
    def text(self) -> str:
        """What the caller hears (`said`), as one text."""
        return " ".join(self.said)

    @property
    def has_ended(self) -> bool:
        """True if no menu asks: the call has ended, or another party was called."""
        return self.menu is None


class Rehearsal:
    """A rehearsed call through a menu, for tests.

        call = Rehearsal(main, data={"name": "Ana"})
        assert "press 1" in (await call.begin()).text
        assert (await call.press("1")).menu == "booking"
        assert (await call.press("")).text  # nothing was pressed in time

    Handlers run as they do in a call. They find `at` in `caller.now` (by default the current time), and `store` in
    `caller.store`. `numbers` are the numbers of the caller and of the account.
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
        self._caller = Caller(
            now=at or datetime.now(UTC),
            number=number,
            our_number=ours,
            data=data or {},
            is_inbound=is_inbound,
            session_id="rehearsal",
            store=store,
        )
        self._action_id: str | None = None
        self._bridged: str | None = None

    @property
    def presses(self) -> Sequence[KeyPress]:
        """The keys pressed so far, in the form in which a job stores them."""
        return self._caller.presses

    @property
    def answer(self) -> str | None:
        """The person's answer so far: the name of the last keys that have one."""
        return next((press.answer for press in reversed(self.presses) if press.answer is not None), None)

    async def begin(self) -> SpokenAnswer:
        """Begin the call: with the menu's opening, if any, else with its question."""
        self._caller = replace(self._caller, presses=())
        return await self._hear(self._menus.begun(self._menu, self._caller))

    async def press(self, keys: str) -> SpokenAnswer:
        """Press these keys, and hear the answer. With an empty text, nothing is pressed in time.

        Raises InvalidInputError if the last answer asks no question, or the call has not begun.
        """
        if self._action_id is None:
            raise InvalidInputError("no question waits for keys: begin() a call; after a bridge, use after_bridge()")
        event = CallAction(dtmf=keys.strip() or None, client_action_id=self._action_id)
        plan = self._menus.plan(event, self._caller)
        heard = await self._hear(plan)
        if plan.press is not None:
            self._caller = replace(self._caller, presses=(*self._caller.presses, plan.press))
        return heard

    async def after_bridge(self, result: BridgeResult | str = BridgeResult.DONE) -> SpokenAnswer:
        """Report the result of a bridge, and hear the answer.

        Raises InvalidInputError when there was no bridge.
        """
        if self._bridged is None:
            raise InvalidInputError(
                "there was no bridge: use after_bridge() only right after an answer that bridges to another party"
            )
        codes = {BridgeResult.DONE: 200, BridgeResult.BUSY: 486, BridgeResult.NO_ANSWER: 480, BridgeResult.FAILED: 503}
        event = CallAction(client_action_id=self._bridged, sip_code=codes[BridgeResult(result)])
        return await self._hear(self._menus.plan(event, self._caller))

    async def _hear(self, plan: Plan) -> SpokenAnswer:
        answer = await self._menus.answer(plan)
        said: list[str] = []
        connected_to: str | None = None
        for action, params in map(read_action, answer.flow.actions):
            if action is Action.MAKE_CALL:
                connected_to = cast("str", params.get("destination"))
            elif (words := wording(action, params)) is not None:
                said.append(words)
        action_id = answer.flow.client_action_id
        position = Position.read(action_id) if action_id is not None else None
        phase = None if position is None else position.phase
        asks = phase in {CallPhase.ASKED, CallPhase.STEPPING}
        # Texts before the question are over when the caller presses keys, or none.
        self._action_id = replace(position, phase=CallPhase.ASKED).write() if position is not None and asks else None
        self._bridged = action_id if phase is CallPhase.BRIDGED else None
        menu = position.path[-1] if position is not None and asks else None
        return SpokenAnswer(tuple(said), menu, connected_to, answer.trouble, answer)
