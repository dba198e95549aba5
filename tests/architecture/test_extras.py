"""What a plain installation can do, and what it says of the rest: the modules of extras are hidden from a program."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from subprocess import PIPE

import anyio
import pytest
from packaging.requirements import Requirement

from voiceflow_worker import Sandbox

pytestmark = pytest.mark.anyio

OF_EXTRAS = ("server", "cli", "redis", "postgres", "files")
HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {hidden!r}: raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
for each in {hidden!r}: sys.modules[each] = None
sys.meta_path.insert(0, Hidden())
"""
PROGRAM = """
import asyncio
from datetime import timedelta
import voiceflow_worker
from voiceflow_worker import CallFlow, CallQueue, Campaign, Escalation, VoiceClient, Worker, load_settings, open_store

lacking = {}
for name in voiceflow_worker.__all__:
    try:
        getattr(voiceflow_worker, name)
    except ModuleNotFoundError as error:
        lacking[name] = str(error).partition("pip ")[2]

async def main():
    ours = {"window": "any", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "outcomes": "none"}
    settings = load_settings(base_url=sys.argv[1], api_key="k", sub_account="demo", **ours)
    people = [{"destination": "+6587654321", "name": "Ana"}]
    async with open_store("sqlite:///" + sys.argv[2]) as store:
        queue = CallQueue(store)
        campaign = Campaign.of({"rows": people, "say": "Hello {{name|upper}}.", "batch": "may"}, settings=settings)
        started = await campaign.start(queue, by="Li")
        async with VoiceClient.from_settings(settings) as voice:
            await Worker(store, voice, rate=10).drain()
        (job,) = await queue.find()
        print(started.enqueued, job.state, sorted(lacking.items()))

asyncio.run(main())
"""


def hidden() -> set[str]:
    """The modules that only extras bring."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {Requirement(each).name for extra in OF_EXTRAS for each in project["optional-dependencies"][extra]}
    return {name.replace("-", "_") for name in names}


async def run(*arguments: str) -> tuple[int, str, str]:
    code = HIDING.format(hidden=hidden()) + arguments[0]
    ended = await anyio.run_process([sys.executable, "-c", code, *arguments[1:]], stdout=PIPE, stderr=PIPE, check=False)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


async def test_a_plain_installation_sends_a_campaign_and_names_the_extra_of_the_rest(tmp_path: Path) -> None:
    sandbox = Sandbox()
    async with sandbox.running() as url:
        code, said, errors = await run(PROGRAM, url, str(tmp_path / "calls.db"))
    assert code == 0, errors
    extras = dict.fromkeys(["Receiver", "Sandbox"], "server")
    extras["enqueue_in"] = "postgres"
    lacking = [(name, f"install 'voiceflow-worker[{extra}]'") for name, extra in sorted(extras.items())]
    assert said.strip() == f"1 submitted {lacking}"
    assert [entry.destination for entry in sandbox.ledger if entry.rang] == ["+6587654321"]


async def test_the_command_names_the_extra_that_it_needs() -> None:
    assert {"cyclopts", "rich", "starlette", "uvicorn", "psycopg"} <= hidden()
    code, said, errors = await run("from voiceflow_worker.cli import main; main()")
    assert (code, said) == (1, "")
    assert errors == (
        "voiceflow: the command `voiceflow` needs an extra, because it lacks cyclopts, rich: pip install "
        "'voiceflow-worker[cli]'\n"
    )
