"""`voiceflow account recording-push`: show and change the server to which 8x8 uploads recordings."""

from __future__ import annotations

import sys
from dataclasses import asdict
from getpass import getpass
from pathlib import Path
from typing import Annotated, Literal

from anyio import to_thread
from cyclopts import Parameter

from voiceflow_worker.cli.confirmation import YesOption, is_sure
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import Flag, JsonOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.voice import voice_client
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.file_remedy import why_unreadable

Protocol = Annotated[Literal["S3", "SFTP"], Parameter(name="PROTOCOL", help="The protocol for uploads: S3 or SFTP.")]
Host = Annotated[str, Parameter(name="HOST", help="The name of the server.")]
NONE = "no server for recordings is set; `voiceflow account recording-push set` sets one"


async def show(*, json: JsonOption = False) -> None:
    """Show the server to which recordings are uploaded. Calls can be recorded only if a server is set.

    Examples:
        voiceflow account recording-push show
    """
    async with voice_client(settings_from()) as voice:
        found = await voice.recording_push_config()
    Output(as_json=json).records([] if found is None else [asdict(found)], nothing=NONE)


async def set_server(
    protocol: Protocol,
    host: Host,
    /,
    *,
    port: int | None = None,
    username: Annotated[str | None, Parameter(metavar="NAME")] = None,
    path: Annotated[str | None, Parameter(metavar="PATH")] = None,
    password_file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    no_password: Annotated[bool, Flag] = False,
    json: JsonOption = False,
) -> None:
    """Set the server to which recordings are uploaded. It replaces the present server.

    The terminal asks for the password, unless --password-file or --no-password is given. The password itself cannot be
    an option: the shell would keep it in its history, and every user of the machine could read it.

    Args:
        port: The port of the server.
        username: The user name on the server.
        path: The folder or bucket for recordings.
        password_file: A file that holds the password; - for standard input.
        no_password: The server needs no password.

    Examples:
        voiceflow account recording-push set SFTP sftp.example.com --username ana --path /calls
        voiceflow account recording-push set S3 s3.example.com --username KEY --password-file /run/secrets/s3
        printenv S3_SECRET | voiceflow account recording-push set S3 s3.example.com --username KEY --password-file -
    """
    from voiceflow_worker.gateway.account.resources import RecordingPush

    client = voice_client(settings_from())  # reports missing settings before the password prompt
    password = None if no_password else await to_thread.run_sync(_password, password_file)
    push = RecordingPush(protocol=protocol, host=host, port=port, username=username, path=path)
    async with client as voice:
        set_up = await voice.set_recording_push_config(push, password=password)
        found = set_up or await voice.recording_push_config()
    Output(as_json=json).records([] if found is None else [asdict(found)], nothing=NONE)


async def delete(*, yes: YesOption = False, json: JsonOption = False) -> ExitCode:
    """Stop the upload of recordings. Uploaded recordings stay on the server; later recordings are lost.

    Examples:
        voiceflow account recording-push delete --yes
    """
    output = Output(as_json=json)
    async with voice_client(settings_from()) as voice:
        found = await voice.recording_push_config()
        if found is None:
            output.note(NONE)
            return ExitCode.DONE
        if not is_sure(f"Stop uploading recordings to {found.host}?", yes=yes):
            output.note("nothing was changed")
            return ExitCode.UNDONE
        await voice.delete_recording_push_config()
    output.document({"deleted": True})
    output.say(f"recordings are no longer uploaded to {found.host}")
    return ExitCode.DONE


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            password = sys.stdin.readline() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the password cannot be read from {file}: {why_unreadable(error)}") from None
        password, source = password.rstrip("\r\n"), str(file)
    elif sys.stdin.isatty():
        password, source = getpass("Password of the server: "), "the terminal"
    else:
        raise InvalidInputError("a password is needed: give --password-file or --no-password")
    if not password:
        raise InvalidInputError(f"there is no password in {source}; give --no-password if the server needs none")
    return password
