"""The preview of a campaign: its options, and its lines for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import Parameter
from cyclopts.validators import Number

from voiceflow_worker.cli.output import Output
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.duration import duration_in_words
from voiceflow_worker.model.text.rate import rate_in_words, read_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voiceflow_worker.campaigns.preview.preview import Preview, PreviewOptions, SampleText
    from voiceflow_worker.core.ports.store import Limits
    from voiceflow_worker.settings import Settings

_MOST_COUNTRIES = 8
_LONGEST_TEXT = 300
_TIME = "%a %d %b %Y %H:%M"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The assumptions of a preview.

    Attributes:
        prices: Prices for the preview: a CSV file with country or prefix, currency, and per_minute or per_call.
            [enqueue: the prices of earlier calls]
        assume_seconds: The length of each call in the preview, in seconds. [the time that its texts take]
        rate: The rate of the preview, in calls per second, or unlimited. [the queue's rate, else VOICEFLOW_RATE]
    """

    prices: Annotated[Path | None, Parameter(metavar="FILE")] = None
    assume_seconds: Annotated[float | None, Parameter(metavar="N", validator=Number(gt=0, lte=36_000))] = None
    rate: Annotated[str | None, Parameter(metavar="N|unlimited")] = None


def preview_options(
    given: Assumptions | None, settings: Settings, *, limits: Limits | None = None, time_zone: str | None
) -> PreviewOptions:
    """The options of a preview. `limits` are the present limits of the queue, if any. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.preview.preview import PreviewOptions
    from voiceflow_worker.campaigns.preview.prices import PriceTable

    given = given or Assumptions()
    try:
        rate = read_rate(given.rate) if given.rate is not None else (limits or settings).rate
    except ValueError as error:
        raise InvalidInputError(f"{given.rate!r} is not a rate: {error}") from None
    return PreviewOptions(
        rate=rate,
        max_active=limits.max_active if limits is not None else settings.max_active,
        seconds=given.assume_seconds,
        prices=None if given.prices is None else PriceTable.load(given.prices),
        time_zone=time_zone,
    )


def tell_preview(output: Output, preview: Preview) -> None:
    """Print a preview for people."""
    course = preview.course
    rows: list[tuple[str, str]] = [("calls", _counts(preview.calls, preview.countries))]
    duplicates = "duplicate" if preview.duplicates == 1 else "duplicates"
    left_out = {duplicates: preview.duplicates, "suppressed": preview.suppressed, "bad": preview.bad}
    if any(left_out.values()):
        rows.append(("left out", ", ".join(f"{count:,} {name}" for name, count in left_out.items() if count)))
    if course.later:
        opens = f"; the first may ring from {_local(course.opens_at, preview)} on" if course.opens_at else ""
        wait = "call waits for its window or its" if course.later == 1 else "calls wait for their window or their"
        rows.append(("not now", f"{course.later:,} {wait} not_before{opens}"))
    if course.first is not None and preview.ends_at is not None:
        rate = preview.rate and float(f"{preview.rate:.3g}")
        rows.append(("starts", _local(course.first, preview)))
        later = duration_in_words(preview.ends_at - course.first)
        ends = f"{_local(preview.ends_at, preview)}, {later} later"
        rows.append(("ends", f"{ends}, without redials (rate: {rate_in_words(rate)})"))
    if course.expired:
        turn = "its turn" if course.expired == 1 else "their turn"
        rows.append(("expire", f"{count_of(course.expired, 'call')} whose validity would end before {turn}"))
    if preview.calls:
        each = preview.seconds / preview.calls
        why = "assumed" if preview.assumed_seconds is not None else "by the length of the texts"
        length = duration_in_words(timedelta(seconds=preview.seconds))
        rows.append(("talk time", f"{length}, {each:.0f} s a call ({why})"))
    if preview.prices is not None:
        amounts = ", ".join(f"{currency} {amount:,.2f}" for currency, amount in preview.cost.items()) or "nothing"
        rows.append(("cost", f"{amounts} if everybody answers, by {preview.prices}"))
    if preview.unpriced:
        rows.append(("no price", _counts(sum(preview.unpriced.values()), preview.unpriced)))
    rows += [(f"row {each.row}", _text(each)) for each in preview.texts]
    if preview.longest is not None and preview.longest not in preview.texts:
        rows.append(("longest text", f"row {preview.longest.row}: {_text(preview.longest)}"))
    output.table(("preview", ""), rows)


def _counts(total: int, countries: Mapping[str, int]) -> str:
    shown = [f"{country} {count:,}" for country, count in list(countries.items())[:_MOST_COUNTRIES]]
    more = len(countries) - _MOST_COUNTRIES
    rest = f", {more} more" if more > 0 else ""
    return f"{total:,}" + (f": {', '.join(shown)}{rest}" if shown else "")


def _text(sample: SampleText) -> str:
    speech = sample.speech
    text = speech.text if len(speech.text) <= _LONGEST_TEXT else f"{speech.text[:_LONGEST_TEXT]}…"
    voice = f" ({speech.voice_profile})" if speech.voice_profile else ""
    return f"{sample.destination}{voice}: {text}" if text else f"{sample.destination}: no spoken text"


def _local(at: datetime, preview: Preview) -> str:
    local = at.astimezone(ZoneInfo(preview.time_zone) if preview.time_zone is not None else None)
    return f"{local:{_TIME}} ({preview.time_zone or local.tzname()})"
