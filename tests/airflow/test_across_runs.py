"""Several runs of one DAG: nobody hears the same again by mistake, and a run that is late calls nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.airflow.scene import context, surroundings
from tests.support.stage import Stage

OperatorAction = Callable[..., Any]
NUMBERS = iter(f"+65876640{place:02d}" for place in range(100))


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("runs")) as staged:
        numbers = [f"+65876640{place:02d}" for place in range(100)]
        staged.order("script", [{"destination": each, "outcome": "COMPLETED", "talk_seconds": 1} for each in numbers])
        yield staged


def one_call(number: str, here: dict[str, Any], *, say: str = "Hello.", **options: Any) -> Any:
    given: dict[str, Any] = {"task_id": "t", "deferrable": False, "poll_interval": 0.2, **options}
    return VoiceCallOperator(destination=number, say=say, **given).execute(here)


def mapped_call(number: str, here: dict[str, Any], **options: Any) -> Any:
    here["ti"].map_index = 0
    return one_call(number, here, **options)


def campaign(number: str, here: dict[str, Any], *, say: str = "Hello.", **options: Any) -> Any:
    row = {"destination": number}
    if "unique_key" in options:
        row["unique_key"] = options.pop("unique_key")
    given: dict[str, Any] = {"task_id": "t", "deferrable": False, "poll_interval": 0.2, **options}
    return VoiceCampaignOperator(rows=[row], say=say, **given).execute(here)


def keyed_campaign(number: str, here: dict[str, Any], **options: Any) -> Any:
    return campaign(number, here, **{"unique_key": "order-1", **options})


ALL = pytest.mark.parametrize("act", [one_call, mapped_call, campaign, keyed_campaign])


def rings(on: Stage, number: str) -> int:
    return sum(entry["destination"] == number for entry in on.ledger())


@ALL
def test_a_second_run_says_the_same_only_when_told_to_and_other_words_need_no_telling(
    on: Stage, act: OperatorAction
) -> None:
    number, task = next(NUMBERS), act.__name__
    act(number, context(task, run="scheduled"))
    with pytest.raises(
        AirflowFailException, match=r"(?s)No new call was made.*again=True.*other words.*once_per='dag'"
    ):
        act(number, context(task, run="manual"))
    assert rings(on, number) == 1
    act(number, context(task, run="scheduled", max_tries=3))  # a clear finds its own call
    assert rings(on, number) == 1
    act(number, context(task, run="manual"), say="Hello, it is Friday.")
    assert rings(on, number) == 2
    act(number, context(task, run="catch-up"), again=True)
    assert rings(on, number) == 3


@ALL
def test_one_call_for_all_runs(on: Stage, act: OperatorAction) -> None:
    number, task = next(NUMBERS), f"dag-{act.__name__}"
    for run in ("a", "b", "c"):
        act(number, context(task, run=run), once_per="dag")
        act(number, context(task, run=run, max_tries=3), once_per="dag", say="Other words.")
    assert rings(on, number) == 1


def test_a_key_of_its_own_is_another_call_of_all_runs(on: Stage) -> None:
    number = next(NUMBERS)
    for run, key in (("a", "order-1"), ("b", "order-2"), ("c", "order-1"), ("d", "order-2")):
        campaign(number, context("keys", run=run), once_per="dag", unique_key=key)
        one_call(number, context("keys-too", run=run), once_per="dag", unique_key=key, say="Hi.")
    assert rings(on, number) == 4


@pytest.mark.parametrize("act", [one_call, campaign])
def test_other_keys_do_not_call_the_same_run_again(on: Stage, act: OperatorAction) -> None:
    number, task = next(NUMBERS), f"switched-{act.__name__}"
    for before, after in (("run", "dag"), ("dag", "run")):
        act(number, context(task, run=before), once_per=before, again=True)
        counted = rings(on, number)
        with pytest.raises(AirflowFailException, match="again=True"):
            act(number, context(task, run=before), once_per=after)
        assert rings(on, number) == counted


@ALL
def test_a_late_run_calls_nobody_and_a_later_clear_shows_the_call_that_was_made(on: Stage, act: OperatorAction) -> None:
    number, task = next(NUMBERS), f"late-{act.__name__}"
    now = datetime.now(UTC)
    for stale in (now - timedelta(seconds=1), str(now - timedelta(days=1)), "2026-01-01 09:00"):
        with pytest.raises(AirflowFailException, match=r"valid_until has passed, at .* Nobody is called"):
            act(number, context(task, run="late"), valid_until=stale, time_zone="Asia/Singapore")
    assert rings(on, number) == 0
    act(number, context(task, run="late"), valid_until=now + timedelta(hours=1))
    act(number, context(task, run="late"), valid_until=now - timedelta(seconds=1))
    assert rings(on, number) == 1


def test_the_end_of_validity_is_a_template_and_shortens_a_longer_one(on: Stage) -> None:
    until = datetime(2036, 1, 31, 12, tzinfo=UTC)
    for operator in (VoiceCallOperator, VoiceCampaignOperator):
        assert "valid_until" in operator.template_fields
    for given in ({}, {"valid_for": timedelta(days=9000)}):
        options: dict[str, Any] = {"valid_until": until, "send": "worker", "wait_for": None, **given}
        made = one_call(next(NUMBERS), context(f"until-{len(given)}"), **options)
        assert made["valid_until"] == "2036-01-31T12:00:00.000Z"
    with pytest.raises(ValueError, match="once_per='week'"):
        VoiceCallOperator(task_id="t", destination="+6587664000", say="Hi.", once_per="week")
