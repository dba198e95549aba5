"""`voiceflow config show`: every setting and its origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import JsonOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.registering import add_command

if TYPE_CHECKING:
    from cyclopts import App

EXAMPLES = """Examples:
  voiceflow config show
  voiceflow config show --json | jq 'select(.setting == "VOICEFLOW_RATE")'"""


def config_group() -> App:
    """`config` with its commands."""
    from cyclopts import App

    group = App(name="config", help="Show the settings.")
    add_command(group, show, examples=EXAMPLES)
    return group


def show(*, json: JsonOption = False) -> ExitCode:
    """Show every setting and where it came from. Secrets are hidden."""
    from voiceflow_worker.settings import unknown_variables

    output = Output(as_json=json)
    settings = settings_from().shown()
    for setting in settings:
        output.document({"setting": setting.variable, "value": setting.value, "from": setting.place})
    if not json:
        output.table(("setting", "value", "from"), [(each.variable, each.value, each.place) for each in settings])
    for unknown in unknown_variables():
        hint = f"; did you mean {unknown.suggestion}?" if unknown.suggestion else ""
        output.note(f"{unknown.name} ({unknown.place}) is not a setting of this version{hint}")
    return ExitCode.DONE
