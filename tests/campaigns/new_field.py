"""A program of tests: it defines one more field, `caller_name`, and tells as JSON what each interface makes of it."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import anyio

from voiceflow_worker.campaigns import fields
from voiceflow_worker.campaigns.reading import Field, Group, Of, Reading, text_of

HELP = "The name that phones show."


def read(value: object, _: Reading) -> str:
    if (text := text_of(value)) != "Clinic":
        raise ValueError(f"{text!r} is no name of a caller")
    return text


def define() -> None:
    """Define the field. What follows from the definition is imported after this."""
    new = Field(
        name="caller_name", read=read, of=frozenset(Of), group=Group.WHO, schema=fields.TEXT, metavar="NAME",
        label="Name of the caller", help=HELP,
    )  # fmt: skip
    fields.FIELDS += (new,)


SAID = {"say": "Hello.", "voice_profile": "en-IE-EmilyNeural", "source": "+6531234567"}


def command(*arguments: str) -> str:
    from voiceflow_worker.cli.program import run

    told = StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        code = run(arguments)
    return f"{code}: {' '.join(told.getvalue().split())}"


def python(given: dict[str, object]) -> str:
    from voiceflow_worker import Campaign, InvalidInputError

    try:
        return str(Campaign.of(given).options.source)
    except InvalidInputError as error:
        return str(error)


async def http(value: str) -> dict[str, object]:
    from tests.api.clients import call, program
    from voiceflow_worker import open_store

    async with open_store("memory://") as store, program(store) as client:
        document = (await client.get("/v1/openapi.json")).json()["components"]["schemas"]
        schemas = [document[name]["properties"]["caller_name"] for name in ("Campaign", "CallRequest")]
        answers = [await call(client, caller_name=value), await call(client, "other", caller_name="Clinic")]
        campaign = {**SAID, "rows": [{"destination": "+6587654321"}], "batch": "b", "caller_name": value}
        answers.append(await client.post("/v1/campaigns", json=campaign, headers={"Idempotency-Key": "c"}))
        return {"schemas": schemas, "answers": [[each.status_code, each.text] for each in answers]}


async def page(value: str, people: bytes) -> list[str]:
    from tests.console.signing_in import Form, receiver, signed_in
    from voiceflow_worker import open_store

    async with open_store("memory://") as store, signed_in(receiver(store)) as client:
        token = dict(Form((await client.get("/ui/campaign")).text).hidden)["token"]
        files = {"file": ("people.csv", people)}
        form = (await client.post("/ui/campaign", data={"token": token, "do": "look"}, files=files)).text
        typed = {**SAID, "caller_name": value, **dict(Form(form).hidden), "do": "preview"}
        return [form, (await client.post("/ui/campaign", data=typed)).text]


def main() -> None:
    define()
    Path("people.csv").write_text("destination\n+6587654321\n")
    for value in ("Clinic", "nobody"):
        options = "".join(f"{name} = {json.dumps(text)}\n" for name, text in {**SAID, "caller-name": value}.items())
        Path(f"{value}.toml").write_text(f'{options}file = "people.csv"\n')
    from tests.docs.command_page import fields_page, options_of

    said = [part for name, value in SAID.items() for part in (f"--{name.replace('_', '-')}", value)]
    told = {
        "command": [command("check", "people.csv", *said, "--caller-name", each) for each in ("Clinic", "nobody")],
        "toml": [python({"campaign": f"{each}.toml"}) for each in ("Clinic", "nobody")],
        "python": [python({**SAID, "caller_name": each}) for each in ("Clinic", "nobody")],
        "http": anyio.run(http, "nobody"),
        "page": anyio.run(page, "nobody", Path("people.csv").read_bytes()),
        "options": options_of("voiceflow check")["--caller-name"],
        "docs": fields_page(),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
