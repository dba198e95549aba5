"""`voiceflow config`: show the settings."""

from __future__ import annotations

from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import JsonOption
from voiceflow_worker.cli.output import Output


def show(*, json: JsonOption = False) -> None:
    """Show every setting and its origin. Secrets are hidden.

    Examples:
        voiceflow config show
        voiceflow config show --json | jq 'select(.setting == "VOICEFLOW_RATE")'
    """
    from voiceflow_worker.settings import unknown_variables

    output = Output(as_json=json)
    settings = settings_from().shown()
    rows = [{"setting": each.variable, "value": each.value, "from": each.place} for each in settings]
    output.records(rows, nothing="there are no settings")
    for unknown in unknown_variables():
        output.note(unknown.in_words())
