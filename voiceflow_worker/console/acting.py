"""The page `/ui/act/NAME`: the confirmation of an action, and the action itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from secrets import token_urlsafe
from urllib.parse import parse_qsl

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.acts import ActRefusedError, Operator, UnknownSubjectError
from voiceflow_worker.console.actions import (
    ActionDone,
    CancelBatchAction,
    CancelCallAction,
    Confirmation,
    HoldAction,
    ImportNumbersAction,
    PageAction,
    RedialAction,
    RedialBatchAction,
    ResolveAction,
    ResumeAction,
    SuppressAction,
    UnsuppressAction,
    page_of,
)
from voiceflow_worker.console.routes.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.console.sessions import FormRefusedError, PageForm, PageSession, checked_form
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.errors import InvalidInputError, JobError, JobNotFoundError, VoiceflowError

ROOM = "act"
LONGEST_FORM = 10_000_000
ACTIONS: tuple[type[PageAction], ...] = (
    HoldAction, ResumeAction, CancelBatchAction, CancelCallAction, RedialAction, RedialBatchAction,
    ResolveAction, SuppressAction, UnsuppressAction, ImportNumbersAction,
)  # fmt: skip
_TOLD_FOR = timedelta(minutes=10)
_LONGEST_TOLD = 32
_REFUSALS = (InvalidInputError, JobError, ActRefusedError)

_log = structlog.get_logger("voiceflow.webhooks")


class PageActing:
    """The actions of operators, each with its confirmation page. Other people see the command to type instead."""

    def __init__(self, operator: Operator) -> None:
        self.actions: dict[str, PageAction] = {action.name: action(operator) for action in ACTIONS}
        self._told = text_records(operator.store, "page-told", keep_for=_TOLD_FOR)

    def commands(self, name: str, subject: Mapping[str, str]) -> str:
        """The command line that does the same as an action."""
        return self.actions[name].command(PageForm(subject.items()))

    async def confirm(self, scope: Scope, asked: PageRequest, session: PageSession) -> Answer:
        """The confirmation page of an action. Raises StoreError."""
        action = self.actions.get(asked.name)
        if action is None:
            return _no_such_action()
        subject = PageForm(parse_qsl(scope["query_string"].decode("latin-1"), errors="replace", keep_blank_values=True))
        if not session.may_act:
            return only_operators(action.command(subject))
        try:
            return _question(action, await action.confirmation(subject), session)
        except _REFUSALS as error:
            return _refused(error, subject)

    async def act(self, scope: Scope, receive: Receive, asked: PageRequest, session: PageSession) -> Answer:
        """Carry out an action, and redirect to the page that shows its result. Raises StoreError."""
        action = self.actions.get(asked.name)
        if action is None:
            return _no_such_action()
        if not session.may_act:
            return only_operators(None)
        try:
            form = await checked_form(scope, receive, session, longest=LONGEST_FORM)
        except FormRefusedError as error:
            return problem(403, "Nothing was changed", sentence(error))
        try:
            done = await action.act(form, who=session.name)
        except _REFUSALS as error:
            _log.info("an action on the pages was refused", action=action.name, name=session.name, why=str(error))
            try:
                question = await action.confirmation(form)
            except _REFUSALS:
                return _refused(error, form)
            return _question(action, question, session, said=str(error))
        _log.info("somebody carried out an action on the pages", action=action.name, name=session.name, done=done.said)
        return await self.tell(done, asked, session)

    async def tell(self, done: ActionDone, asked: PageRequest, session: PageSession) -> Response:
        """Redirect to the page that shows a result, which `told` then tells. Raises StoreError."""
        told = token_urlsafe(9)
        await self._told.put({f"{session.id}/{told}": done.said})
        way = f"{done.back}{'&' if '?' in done.back else '?'}told={told}"
        return Response(b"", 303, {"Location": f"{asked.home}{'' if way.startswith('?') else '/'}{way}"})

    async def told(self, asked: PageRequest, session: PageSession) -> str | None:
        """A sentence with the result of the action that led to this page; None if no action did. Raises StoreError."""
        told = asked.query.get("told")
        if not told or len(told) > _LONGEST_TOLD:
            return None
        key = f"{session.id}/{told}"
        return (await self._told.get([key])).get(key)


def _question(action: PageAction, asked: Confirmation, session: PageSession, *, said: str = "") -> Page:
    shown = {"action": action.name, "ask": asked, "token": session.token, "said": said}
    return Page(template="confirm.html", shown=shown, status=409 if said else 200)


def _refused(error: VoiceflowError, subject: PageForm) -> Page:
    if isinstance(error, UnknownSubjectError | JobNotFoundError):
        return problem(404, "This cannot be done", sentence(error))
    return problem(409, "This cannot be done", sentence(error), back=page_of(subject))


def _no_such_action() -> Page:
    return problem(404, "No such action", "All actions can be reached by the buttons on the pages.")


def only_operators(command: str | None) -> Page:
    """The page for people who may not act: the command to type instead."""
    how = f" Or run this command on a machine with the store: {command}" if command else ""
    return problem(403, "Only operators may do this", f"Sign in with VOICEFLOW_UI_OPERATOR_SECRET.{how}")
