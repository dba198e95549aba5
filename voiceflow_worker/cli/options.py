"""Options that commands share: of stores and queues, of people, of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from voiceflow_worker.cli.opening import acting, carried_out, opened_queue, settings_from
from voiceflow_worker.cli.output import ExitCode, Output
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import read_duration, read_name, read_rate
from voiceflow_worker.model.times import read_since, read_time

if TYPE_CHECKING:
    from voiceflow_worker.actions import OperatorAction
    from voiceflow_worker.actions.many import Many
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.settings import Settings


STORE_GROUP = Group("Where the calls are", sort_key=90)


def _read_by(read: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    """Return a converter of cyclopts that reads the text of an option."""
    return lambda _type, tokens: read(tokens[0].value)


def _duration(text: str) -> timedelta:
    try:
        return read_duration(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a duration: {error}") from None


def rate_given(text: str) -> float | None:
    """Return the rate in the text of an option or argument; None is unlimited. Raises InvalidInputError."""
    try:
        return read_rate(text)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is not a rate: {error}") from None


Flag: Final = Parameter(negative=(), show_default=False)
"""The parameter of a switch that has no `--no-…` form."""
DurationOption = Annotated[timedelta | None, Parameter(converter=_read_by(_duration), n_tokens=1, metavar="DURATION")]
MomentOption = Annotated[
    datetime | None, Parameter(converter=_read_by(partial(read_time, asks_zone=False)), n_tokens=1, metavar="TIME")
]
SinceOption = Annotated[
    timedelta | datetime | None,
    Parameter(
        converter=_read_by(read_since),
        n_tokens=1,
        metavar="TIME",
        help="Only calls that changed after this time, such as 2026-11-20T09:00:00+08:00, or 2h for two hours ago.",
    ),
]
PortOption = Annotated[int, Parameter(validator=Number(gte=0, lte=65535), metavar="PORT")]
LimitOption = Annotated[
    int, Parameter(validator=Number(gte=0), metavar="N", help="List at most this many; 0 lists all.")
]
SpeedOption = Annotated[float, Parameter(validator=Number(gt=0, lt=inf))]
AsOption = Annotated[
    str | None,
    Parameter(
        name="--as",
        converter=_read_by(read_name),
        n_tokens=1,
        metavar="NAME",
        help="Your name, to be stored with this action.",
    ),
]
NoteOption = Annotated[str | None, Parameter(metavar="TEXT", help="The reason, to be stored with this action.")]
BatchOption = Annotated[str | None, Parameter(metavar="ID", help="Only this batch.")]
JsonOption = Annotated[bool, Flag, Parameter(help="Print JSON for scripts on stdout, and text for people on stderr.")]
YesOption = Annotated[bool, Flag, Parameter(help="Do not ask for confirmation.")]
StoreOption = Annotated[
    str | None,
    Parameter(
        metavar="URL",
        group=STORE_GROUP,
        help="The store's URL: sqlite:///relative.db, sqlite:////absolute.db, postgresql://user@host/database, "
        "redis://host:6379/0, or memory://. [VOICEFLOW_STORE, else sqlite:///voiceflow.db]",
    ),
]
WaitOption = Annotated[
    DurationOption,
    Parameter(
        group=STORE_GROUP,
        help="The longest wait for a store that is locked or cannot be reached; 0 for none. "
        "[VOICEFLOW_WAIT_FOR_STORE, else 30s]",
    ),
]
QueueOption = Annotated[
    str | None, Parameter(metavar="NAME", group=STORE_GROUP, help="The queue's name. [VOICEFLOW_QUEUE, else default]")
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class WholeStoreOptions:
    """The options of a command on all queues of a store: its store, and the form of its output."""

    json: JsonOption = False
    store: StoreOption = None
    wait_for_store: WaitOption = None

    def output(self) -> Output:
        """Return the output of the command."""
        return Output(as_json=self.json)

    def settings(self, *, store_alone: bool = False, **options: object) -> Settings:
        """Return the settings. Options given here override the environment and the settings file. Raises SettingsError.

        With `store_alone`, only those that say which queue of which store is meant must be right.
        """
        where = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "json"}
        return settings_from(store_alone=store_alone, **options, **where)

    def opened(self) -> AbstractAsyncContextManager[CallQueue]:
        """Open the store and yield the queue. Raises SettingsError, StoreError."""
        return opened_queue(self.settings(store_alone=True))


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions(WholeStoreOptions):
    """The options of a command on one queue: its store, its queue, and the form of its output."""

    queue: QueueOption = None

    async def ordered(
        self,
        act: Callable[..., OperatorAction | Many],
        who: str | None,
        *,
        yes: bool = False,
        asks: bool = False,
    ) -> ExitCode:
        """Carry out the act on the queue that `act` makes, as `acting` and `carried_out` do. Raises StoreError."""
        settings = self.settings(store_alone=True)
        async with acting(settings, who) as operator:
            made = act(operator=operator, queue=settings.queue)
            return await carried_out(made, self.output(), yes=yes, asks=asks)
