"""The Python examples of the pages run as they are printed, against a sandbox in this process."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import CodeType
from typing import Any

import anyio.to_thread
import pytest

from tests import contract
from tests.docs.pages import DOCS, ROOT, Block, blocks
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# What needs Airflow runs where Airflow is (tests/airflow).
WITH_PYTHON = [
    page
    for page in PAGES
    if blocks(page, language="python") and not page.name.startswith(("airflow", "start-airflow", "every-day"))
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # the sandbox is served by uvicorn


@pytest.fixture
async def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """An 8x8 stand-in that the settings point to; the examples' files land in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    stand_in = Sandbox(speed=100)
    async with stand_in.running() as url:
        for name, value in (("BASE_URL", url), ("API_KEY", "any-key"), ("SUB_ACCOUNT", "demo"), ("OUTCOMES", "none")):
            monkeypatch.setenv(f"VOICEFLOW_{name}", value)
        yield stand_in


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.relative_to(ROOT).as_posix())
async def test_the_examples_of_a_page_run_in_their_order(
    page: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    monkeypatch.setitem(sys.modules, "voiceflow_contract", contract)  # the name that it has in the wheel
    for block in blocks(page, language="python"):
        await run(compiled(block, page), names, in_thread="asyncio.run(" in block.text or "anyio.run(" in block.text)
        for test in [names.pop(name) for name in list(names) if name.startswith("test_")]:
            await test()
    out = capsys.readouterr().out
    for block in blocks(page, language="output"):
        assert block.text in out, f"{page.name}:{block.line}: this was not printed; what was:\n{out}"


def compiled(block: Block, page: Path) -> CodeType:
    """A block as code that may await at its top, as `python -m asyncio` allows; errors name the page and its line."""
    text = "\n" * (block.line - 1) + block.text
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(text, str(page.relative_to(ROOT)), "exec", flags=flags, dont_inherit=True)
    return code


async def run(code: CodeType, names: dict[str, object], *, in_thread: bool) -> None:
    """A block that starts an event loop itself has a thread to do so."""
    if in_thread:
        await anyio.to_thread.run_sync(eval, code, names)
        return
    result = eval(code, names)
    if inspect.iscoroutine(result):
        await asyncio.wait_for(result, 60)
