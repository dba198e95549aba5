"""The options of a campaign, for all of its rows; which rows may be left out, and whom it calls again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, cast
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.calls.template import FlowTemplate, opening_template
from voiceflow_worker.campaigns.lists.columns import ColumnRoles, row_name
from voiceflow_worker.campaigns.lists.filters import Part
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.flows.values import describe
from voiceflow_worker.model.jobs.job import JobState, RedialPolicy
from voiceflow_worker.model.text.arguments import checked_duration
from voiceflow_worker.model.text.wording import quoted
from voiceflow_worker.model.times import DateOrder
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.model.zones import read_zone

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts
    from voiceflow_worker.ivr.menu import Menu


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOptions:
    """The defaults for the rows of a campaign. A column overrides the call flow, and the call flow overrides an option.

    The names are those of the fields of a campaign (`campaigns/fields.py`), where each is explained; `columns` has all
    roles of columns, and `batch_id` is `batch`. There are three special rules. A voice in the call flow overrides even
    the column. The option `batch_id` overrides the column and the clientBatchId of a body; without any, the batch is
    the file's name without extension. `valid_for` counts from now, or from `not_before` if that is later. It replaces a
    missing or expired validity, and shortens a longer one. It does not extend a shorter one. `valid_until` gives the
    time itself, by the same rule. A row whose time is over that is counted from a column calls nobody, and one that is
    called before the time in the column is called no later than that.

    `template` is `FlowTemplate.load(path)` or `FlowTemplate.speaking(text)`; without one, each JSON line is a body, or
    the `menu` asks its question. That is the first IVR menu of the calls, its texts, which are checked against each
    row, or only its name. A campaign needs a `window`, or "any" for calls at any hour. A window applies in its own
    zone, if it has one; else in the zone of the row, else in that of the number called. If `redial` is None, the policy
    of the queue applies.

    A `batch_id` with `{date}` names a batch for each day in the `time_zone` (`dated`). Once the day is in the
    `batch_id`, `batch_pattern` is this name: batches of one pattern may say the same words to the same people.

    `voices` are those of the account; if they are known, a call with another voice is refused.
    """

    template: FlowTemplate | None = None
    voice_profile: str | None = None
    source: str | None = None
    country: str | None = None
    batch_id: str | None = None
    batch_pattern: str | None = None
    valid_for: timedelta | None = None
    valid_until: datetime | ColumnTime | None = None
    not_before: datetime | ColumnTime | None = None
    time_zone: str | None = None
    priority: int = 0
    redial: RedialPolicy | None = None
    menu: str | Menu | MenuTexts | None = None
    window: CallWindow | CountryWindows | Literal["any"] | None = None
    data: Mapping[str, object] | None = None
    sheet: str | None = None
    encoding: str | None = None
    date_order: DateOrder | None = None
    leave_out: str | Sequence[Part] | None = None
    only: str | Sequence[Part] | None = None
    limit: int | None = None
    most: int | None = None
    header_row: int | None = None
    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, str | Sequence[str]])
    voices: Collection[str] | None = None
    roles: ColumnRoles = field(init=False, repr=False, compare=False)
    """What `columns` says."""
    counted: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The columns from which times are counted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", ColumnRoles.of(self.columns))
        if self.valid_for is not None:
            checked_duration("valid_for", self.valid_for)
        columns: list[str] = []
        for name in ("not_before", "valid_until"):
            if isinstance(each := getattr(self, name), ColumnTime):
                key = row_name(each.column)
                object.__setattr__(self, name, replace(each, column=self.roles.renamed.get(key, each.column)))
                columns.append(self.roles.names.get(key, each.column))
        object.__setattr__(self, "counted", tuple(dict.fromkeys(columns)))
        if self.menu is not None and not isinstance(self.menu, str) and self.template is None:
            object.__setattr__(self, "template", opening_template(cast("Menu", self.menu)))

    @property
    def has_hours(self) -> bool:
        """True if the window has hours, or says that any hour is meant."""
        return self.window is not None and bool(CountryWindows.of(self.window).hours)


NO_WINDOW = "the campaign does not say when phones may ring. Set `window: 09:00-20:00`, or `window: any`."
_DATE = "{date}"


def zone_of(options: CampaignOptions) -> ZoneInfo | None:
    """Return the time zone of the options. Raise InvalidInputError if there is no such zone."""
    try:
        return None if options.time_zone is None else read_zone(options.time_zone)
    except ValueError as error:
        raise InvalidInputError(f"the time zone {error}") from None


def dated(options: CampaignOptions, at: datetime, *, zone: ZoneInfo | None = None) -> CampaignOptions:
    """Put the day at a time in place of `{date}` in the name of the batch.

    It is the day in the `time_zone` of the options, else in `zone`. Raise InvalidInputError if there is neither.
    """
    pattern = options.batch_id
    if pattern is None or _DATE not in pattern:
        return options
    zone = zone_of(options) or zone
    if zone is None:
        raise InvalidInputError(
            "{date} is the day in a time zone, and none is named. Set `time_zone` (such as Asia/Singapore)."
        )
    day = at.astimezone(zone).date().isoformat()
    return replace(options, batch_id=pattern.replace(_DATE, day), batch_pattern=pattern)


def is_of_pattern(batch_id: str | None, pattern: str | None) -> bool:
    """Return whether the name of a batch can be of this pattern with `{date}`, on any day."""
    if batch_id is None or pattern is None:
        return False
    days = re.escape(pattern).replace(re.escape(_DATE), r"\d{4}-\d{2}-\d{2}")
    return re.fullmatch(days, batch_id) is not None


CallAgain = frozenset[str]
"""Whom a list calls although they have a call: states in which calls ended without a ring, whose rows are called again;
and `elsewhere`, which allows the words of another batch."""
ELSEWHERE, _ALL = "elsewhere", "all"
_WORDS = {JobState.CANCELLED: "cancelled", JobState.EXPIRED: "expired", JobState.FAILED: "failed"}


def read_again(value: object) -> CallAgain:
    """Return the option `again` of a text or a list: states, `all` of them, `elsewhere`. Raises ValueError."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"it is empty: {_HOW}, or leave it out")
        words = [word.strip().lower() for word in value.split(",")]
    elif isinstance(value, list | tuple | set | frozenset):
        given = cast("Iterable[object]", value)
        words = [word.strip().lower() if isinstance(word, str) else quoted(word) for word in given]
    else:
        raise InvalidInputError(f"{quoted(value)} is {describe(value)}; {_HOW}")
    known = {*_WORDS.values(), ELSEWHERE, _ALL}
    if not words or not known.issuperset(words):
        raise ValueError(f"{','.join(words)[:40]!r} is not among {', '.join(sorted(known))}; {_HOW}")
    every: frozenset[str] = frozenset(_WORDS.values() if _ALL in words else ())
    return frozenset(words) - {_ALL} | every


_HOW = "give the states of the calls to make again, such as cancelled,expired, or elsewhere"
