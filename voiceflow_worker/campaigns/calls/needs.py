"""What a template needs that no row of a CSV can give: told once for the file, not for every row."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from voiceflow_worker.campaigns.calls.completion import missing_from
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.finding import Finding

_OPTIONS = {"source": "--source", "voice_profile": "--voice-profile"}


def header_findings(template: FlowTemplate, options: CampaignOptions, variables: Iterable[str]) -> list[Finding]:
    """Why no row of a file with these variables can become a call; empty when nothing speaks against that.

    Judged by filling the template in for a row whose every cell has something in it: what is missing then is missing
    in every row. Conditions and defaults of the template are honoured so.
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
    remedy = f"give {option}, or add a column {name}" if option else f"add a column {name}"
    if close := get_close_matches(name, present, n=1):
        remedy += f", or did you mean {close[0]}?"
    return Finding(column=name, code=-1009, message=f"is needed by the call flow, and no row has it; {remedy}")
