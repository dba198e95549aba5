"""The check of stores against executors."""

from __future__ import annotations

import pytest

from airflow_provider.calls.event_loop import is_relative, require_lasting
from voiceflow_worker import InvalidInputError

CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"
FILE = "sqlite:////data/calls.db"


@pytest.mark.parametrize(
    "executor",
    [
        CELERY,
        "KubernetesExecutor",
        f"LocalExecutor,{CELERY}",
        f"LocalExecutor;team1={CELERY}",
        "LocalExecutor,mine:my.module.EdgeExecutor",
        "some.of.TheirOwn",
    ],
)
def test_a_file_is_refused_where_a_task_may_move(executor: str) -> None:
    with pytest.raises(InvalidInputError, match="another host"):
        require_lasting(FILE, executor=executor, allowed=False)


def test_a_file_is_accepted_on_one_host_or_if_the_user_says_so() -> None:
    for one_host in ("LocalExecutor", "here:airflow.executors.local_executor.LocalExecutor", ""):
        require_lasting(FILE, executor=one_host, allowed=False)
    require_lasting(FILE, executor=CELERY, allowed=True)
    require_lasting("redis://host/0", executor=CELERY, allowed=False)


def test_a_store_in_memory_is_refused_everywhere() -> None:
    for allowed in (False, True):
        with pytest.raises(InvalidInputError, match="loses every call"):
            require_lasting("memory://", executor="LocalExecutor", allowed=allowed)


@pytest.mark.parametrize(
    ("store", "relative"),
    [("sqlite:///calls.db", True), ("file:///calls.db", True), (FILE, False), ("redis://host/0", False)],
)
def test_a_file_named_from_the_working_directory_is_known(store: str, relative: bool) -> None:
    assert is_relative(store) is relative
