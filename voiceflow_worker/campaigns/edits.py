"""The fields of an edit of a batch, read as those of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.fields import CHANGES, EDITED
from voiceflow_worker.core.edits import BatchEdit
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.numbers.sources import read_sources


def read_edit(given: Mapping[str, Any], *, now: datetime, named: Callable[[str], str] = str) -> BatchEdit:
    """The edit with these fields, which have the names, forms and meanings of those of a campaign.

    None counts as not given. Raises InvalidInputError, with a finding for each field that is unknown or wrong.
    """
    said = {name: value for name, value in given.items() if value is not None}
    if unknown := sorted(said.keys() - set(EDITED)):
        why = f"cannot be changed in waiting calls; these can: {', '.join(map(named, CHANGES))}"
        found = [Finding(column=name, message=why) for name in unknown]
        raise InvalidInputError("; ".join(f"{named(name)} {why}" for name in unknown)).found(*found)
    if not said.keys() & set(CHANGES):
        raise InvalidInputError(f"nothing would change: give one of {', '.join(map(named, CHANGES))}")
    options = Campaign.of({**said, "rows": [], "batch": "edit"}, now=now, named=named, foreign=True).options
    valid_until = options.valid_until if options.valid_for is None else now + options.valid_for
    return BatchEdit(
        names=frozenset(said),
        windows=None if options.window is None else CountryWindows.of(options.window),
        valid_until=valid_until,
        priority=options.priority if "priority" in said else None,
        sources=read_sources(options.source, options.country) if options.source is not None else None,
    )
