"""`voiceflow check`: check call flows and campaign files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

from anyio.to_thread import run_sync
from cyclopts import Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.findings import in_words, tell_findings, typed
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import Flag, JsonOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.preview import Assumptions, preview_options, tell_preview
from voiceflow_worker.cli.progress import Meter, meter
from voiceflow_worker.cli.row_options import FILE_KINDS, FileArgument, RowOptions, campaign_options, input_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.check import CheckReport
    from voiceflow_worker.campaigns.files.input_file import InputFile


async def check(
    *files: Annotated[FileArgument, Parameter(name="FILE", help=f"A call flow template, or {FILE_KINDS}.")],
    rows: RowOptions | None = None,
    assumptions: Assumptions | None = None,
    fetch: Annotated[bool, Flag] = False,
    json: JsonOption = False,
) -> ExitCode:
    """Check call flows and campaign files. Nothing is sent or stored. Exit 0 if all calls can be sent, 2 if not.

    Without --template, --say or --ivr, only the numbers and reserved columns of a table are checked. For a file of
    rows, a preview shows texts, duration and cost. With --json, one finding a line, and a last line with the preview.

    Usage: [OPTIONS] FILE...

    Args:
        fetch: Also check over the network that each fileUrl exists, is wav or mp3, and is under 5 MB.

    Examples:
        voiceflow check people.csv --template reminder.json
        voiceflow check reminder.json body.json --fetch
        voiceflow check people.csv --json | jq -r 'select(.severity == "error") | .message'
    """
    from voiceflow_worker.campaigns.check import check_file
    from voiceflow_worker.cli.audio_files import look_at

    if not files:
        raise InvalidInputError("name one or more files to check")
    settings = settings_from()
    options = campaign_options(rows, settings)
    assumed = preview_options(assumptions, settings, time_zone=options.time_zone)
    now = datetime.now(UTC)
    output = Output(as_json=json)
    valid = True
    for file in files:
        async with input_file(file) as source:
            with meter(f"checking {source.name}") as shown:
                report = await run_sync(
                    partial(
                        check_file, source, options, now=now, assumptions=assumed, on_bytes=_shown_on(shown, source)
                    )
                )
        findings = typed([*report.findings, *(await look_at(report.file_urls, file=report.file) if fetch else [])])
        valid = valid and not any(found.is_error for found in findings)
        _tell(output, report, findings)
    return ExitCode.DONE if valid else ExitCode.BAD_INPUT


def _shown_on(shown: Meter, file: InputFile) -> Callable[[int], None]:
    size = file.size

    def show(done: int) -> None:
        shown(done, max(size, done), f"{done} of {max(size, done)} bytes read")

    return show


def _tell(output: Output, report: CheckReport, findings: Sequence[Finding]) -> None:
    for found in findings:
        output.document(found.as_json())
    if report.preview is not None:
        # This line has the fields of a finding too, so that a script can read all lines in one way.
        document = Finding(file=report.file, message="preview").as_json() | {"severity": None}
        output.document({**document, "preview": report.preview.as_json()})
    if output.as_json:
        return
    tell_findings(output, findings)
    errors = sum(found.is_error for found in findings)
    what = "a duplicate" if report.duplicates == 1 else "duplicates"
    duplicates = f", {report.duplicates} of them {what}" if report.duplicates else ""
    if report.preview is not None:
        tell_preview(output, report.preview)
    rows = f"{count_of(report.rows, 'call' if report.preview is None else 'row')}{duplicates}"
    output.say(f"{report.file}: {rows}; {in_words(errors=errors, warnings=len(findings) - errors)}")
