"""The SQL of the page of stores runs as it is printed, and finds what its sentence says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks
from tests.support.engine import Engine
from tests.support.postgres import connected
from tests.support.voices import ScriptedVoice
from voiceflow_worker import open_store
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

pytestmark = pytest.mark.anyio
NUMBER = "+6591234567"
QUERIES = [block.text for block in blocks(DOCS / "stores.md", language="sql") if block.text.startswith("SELECT")]
OF_NUMBER = (
    "SELECT id, state, outcome, sent_at, data FROM voiceflow.numbers JOIN voiceflow.call_list USING (queue, id) "
    "WHERE telephone = '+6591234567' ORDER BY id DESC"
)
OPT_OUTS = "SELECT telephone, since, until, reason, call_id FROM voiceflow.suppression_list"
"""What the page says of these views."""


async def test_each_query_of_the_page_finds_what_it_says(fresh_url: Callable[[str], str]) -> None:
    url = fresh_url("postgres")
    async with open_store(url, advises=False) as store:
        voice = ScriptedVoice()
        async with Engine(store, voice).at_work() as engine:
            called = await engine.enqueue(NUMBER, data={"order": "A-17"})
            await engine.send()
            voice.answers.append(Verdict(kind=VerdictKind.UNKNOWN, message="the connection was lost"))
            await engine.enqueue("+6581110002")
            await engine.send()
            await SuppressionList(store).add("+6581110005", reason="asked for it")
    found = [rows_of(url, query) for query in (*QUERIES, OF_NUMBER, OPT_OUTS)]
    by_outcome, of_number, opt_outs = found
    assert by_outcome == [("in_doubt", 1), ("submitted", 1)]
    assert [(row[0], row[1], row[4]) for row in of_number] == [(called.id, "submitted", {"order": "A-17"})]
    assert [(row[0], row[3]) for row in opt_outs] == [("+6581110005", "asked for it")]


def rows_of(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows that this query finds in the store."""
    schema = url.rpartition("schema=")[2]
    with connected(url) as connection:
        return connection.execute(query.replace("voiceflow.", f"{schema}.").encode()).fetchall()
