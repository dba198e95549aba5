"""The service in a sandbox: a request that is repeated, an outcome in the own table, and what is refused."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from examples.order_service.service import make_app
from tests.support.waiting import until
from voiceflow_worker import SessionStatus, Voiceflow


@pytest.mark.anyio
async def test_customer_is_called_once_and_the_outcome_is_kept(tmp_path: Path) -> None:
    async with Voiceflow.in_sandbox() as (voiceflow, sandbox):
        sandbox.script("+6587654322", answer=SessionStatus.BUSY)
        app = make_app(voiceflow, str(tmp_path / "orders.db"))
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://a") as web:
            for order, phone in ((1, "+6587654321"), (1, "+6587654321"), (2, "+6587654322")):
                answer = await web.post(f"/orders/{order}/ready", params={"phone": phone})
                assert answer.status_code == 202
            refused = await web.post("/orders/3/ready", params={"phone": "8765 4323"})
            assert (refused.status_code, "country" in refused.text) == (422, True)

            def rows() -> list[tuple[str, str]]:
                return [*app.state.table.execute("SELECT order_key, state FROM order_calls ORDER BY 1")]

            await until(lambda: len(rows()) == 2)
            assert rows() == [("order-1", "completed"), ("order-2", "unreached")]
        assert sorted(str(call.destination) for call in sandbox.calls) == ["+6587654321", "+6587654322"]
