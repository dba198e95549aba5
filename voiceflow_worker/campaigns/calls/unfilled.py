"""Variables of a template that no column fills: reported once for the file, not for every row."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from voiceflow_worker.campaigns.calls.completion import missing_from
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.errors import Remedy
from voiceflow_worker.finding import Finding

_OPTIONS = {"source": Remedy.GIVE_SOURCE, "voice_profile": Remedy.GIVE_VOICE}


def header_findings(template: FlowTemplate, options: CampaignOptions, variables: Iterable[str]) -> list[Finding]:
    """The findings that make every row of a file with these variables bad; empty if there are none.

    The template is filled in for a row without empty cells, so its conditions and defaults apply: a value that is
    missing then is missing in every row.
    """
    present = set(variables)
    given = {"source": options.source, "voice_profile": options.voice_profile}
    specimen: dict[str, object] = dict.fromkeys(present, "1")
    specimen |= {name: value for name, value in given.items() if value is not None and name not in present}
    filled = template.fill(specimen)
    missing = {problem.column for problem in filled.problems if problem.column is not None}
    missing |= missing_from(filled.body) - specimen.keys()
    return [_finding(name, present) for name in sorted(missing)]


def _finding(name: str, present: Collection[str]) -> Finding:
    option = _OPTIONS.get(name)
    remedy = f"{option}, or add a column {name}" if option else f"add a column {name}"
    if close := get_close_matches(name, present, n=1):
        remedy += f", or did you mean {close[0]}?"
    return Finding(column=name, code=-1009, message=f"is needed by the call flow, and no column has it; {remedy}")
