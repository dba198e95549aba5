"""A store that was put back to an older copy, behind the back of a running Airflow: nobody is called a second time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow.stack import whole_stack
from tests.support.redis_server import standalone

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_a_task_whose_store_was_rolled_back_before_its_post_fails_and_calls_nobody_again(tmp_path: Path) -> None:
    server = standalone(tmp_path / "redis").start()
    stores = {
        "on_sqlite": f"sqlite:///{tmp_path}/calls.db",
        "on_redis": server.url,
        "campaign_on_sqlite": f"sqlite:///{tmp_path}/campaign.db",
    }
    config = {f"VOICEFLOW_TEST_STORE_{name.upper()}": url for name, url in stores.items()}
    try:
        with whole_stack(tmp_path, config=config, connections=stores) as airflow:
            airflow.trigger("rolled_back")
            assert airflow.wait_for_run("rolled_back") == "failed", airflow.log_tails()
            tasks = ("call_on_sqlite", "call_on_redis", "campaign")
            assert [airflow.tries("rolled_back", task) for task in tasks] == [2, 2, 2]
            assert [airflow.posts_to(f"+658765050{place}") for place in range(3)] == [1, 1, 1]
            for task in tasks:
                second = airflow.home.glob(f"logs/dag_id=rolled_back/**/task_id={task}/attempt=2.log")
                assert "restored from an older copy" in "".join(path.read_text() for path in second), task
    finally:
        server.kill()
