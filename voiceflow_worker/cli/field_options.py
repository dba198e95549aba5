"""The options of commands that are fields of a campaign, made from the definition of the fields; and input files."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

from anyio.to_thread import run_sync
from cyclopts import Group, Parameter

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.lists.input_file import InputFile, standard_input
from voiceflow_worker.campaigns.reading import Group as FieldGroup
from voiceflow_worker.campaigns.reading import Of, option
from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.campaign import Campaign
    from voiceflow_worker.settings import Settings

C = TypeVar("C")

STANDARD_INPUT = Path("/dev/stdin")
"""The file that `-` names."""
FILE_KINDS = "CSV, Excel (.xlsx), JSON lines (of rows or bodies), or a JSON body; also .gz; - for stdin"


_PANELS: Final = {each: Group(each.value, sort_key=10 + place) for place, each in enumerate(FieldGroup)}
GUARDS = _PANELS[FieldGroup.GUARDS]


def with_fields(*names: str) -> Callable[[type[C]], type[C]]:
    """Give a class of options those of these fields of a campaign, as their definition says; None by default.

    An option whose value may be a list may be repeated.
    """

    def with_options(options: type[C]) -> type[C]:
        known = fields_of(Of.CAMPAIGN)
        for each in map(known.__getitem__, names):
            parameter = Parameter(
                metavar=each.metavar,
                group=_PANELS[each.group],
                help=each.help_text(option) + (f" [{each.default}]" if each.default else ""),
                negative=(),
            )
            kind = Path if each.metavar == "FILE" else list[str] if each.may_be_list else str
            options.__annotations__[each.name] = Annotated[kind | None, parameter]
            setattr(options, each.name, None)
        return options

    return with_options


_OF_ROWS: Final = tuple(
    name
    for name, each in fields_of(Of.CAMPAIGN).items()
    if each.metavar and (name == "campaign" or not each.is_of_one_run)
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
@with_fields(*_OF_ROWS)
class RowOptions:
    """The defaults for the rows of a file, and the assumptions of a preview. A column of a row overrides an option."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
@with_fields("again", "rejects")
class RunOptions:
    """What concerns one start."""


def fields_in(*options: object | None) -> dict[str, Any]:
    """Return the fields in options of commands, by name."""
    return {
        each.name: as_one(getattr(given, each.name))
        for given in options
        if given is not None
        for each in fields(cast("Any", given))
    }


def as_one(value: Any) -> Any:
    """Return the value of an option; the texts of one that was repeated are one text, with commas between them."""
    return ",".join(cast("list[str]", value)) if isinstance(value, list) else value


def campaign_of(*options: object | None, settings: Settings, **more: object) -> Campaign:
    """Return the campaign of a command: the fields in its options, and `more` of them. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.campaign import Campaign

    return Campaign.of({**fields_in(*options), **more}, settings=settings, named=option)


@asynccontextmanager
async def input_file(path: Path) -> AsyncGenerator[InputFile]:
    """Yield the file to read. Standard input is read to its end first.

    Raises CampaignFileError if standard input cannot be stored, and InvalidInputError if it is a terminal.
    """
    if path != STANDARD_INPUT:
        yield InputFile(path)
        return
    if sys.stdin.isatty():
        raise InvalidInputError("standard input is a terminal: pipe a file into this command, or name a file")
    with ExitStack() as stack:
        # Ctrl-C must not wait for the program that writes into the pipe.
        yield await run_sync(stack.enter_context, standard_input(sys.stdin.buffer), abandon_on_cancel=True)
