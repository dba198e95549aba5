"""The errors of a Redis server as errors of this library."""

from __future__ import annotations

import pytest
from coredis import exceptions as driver

from voiceflow_worker.backends.redis.faults import NotConfirmedError, is_lost, translated
from voiceflow_worker.errors import (
    RedisForgetsError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

IN_A_SCRIPT = "Error running script (call to f_1): @user_script:5: @user_script: 5: "


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        (driver.ConnectionError("Connection lost!"), StoreUnavailableError, "cannot be reached .*; check that it runs"),
        (TimeoutError("EVALSHA timed out after 5 seconds"), StoreUnavailableError, "timed out"),
        (TimeoutError(), StoreUnavailableError, "TimeoutError"),
        (ConnectionRefusedError("refused"), StoreUnavailableError, "refused"),
        (driver.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailableError, "loading"),
        (driver.ClusterDownError("The cluster is down"), StoreUnavailableError, "cannot answer now"),
        (driver.TryAgainError("Multiple keys"), StoreUnavailableError, "cannot answer now"),
        (driver.RedisClusterError("Local cluster layout cache is empty"), StoreUnavailableError, "cannot answer now"),
        (driver.PrimaryNotFoundError("No primary found for 'calls'"), StoreUnavailableError, "No primary"),
        (driver.ResponseError("MASTERDOWN Link with MASTER is down"), StoreUnavailableError, "cannot answer now"),
        (driver.ResponseError("BUSY Redis is busy running a script"), StoreUnavailableError, "cannot answer now"),
        (driver.ResponseError("NOREPLICAS Not enough good replicas"), StoreUnavailableError, "cannot answer now"),
        (
            driver.ReadOnlyError("You can't write against a read only replica."),
            StoreUnavailableError,
            r"redis\+sentinel",
        ),
        (driver.ResponseError(IN_A_SCRIPT + "-READONLY You can't write"), StoreUnavailableError, "replica"),
        (driver.MovedError("3999 127.0.0.1:6381"), StoreUnavailableError, r"redis\+cluster"),
        (driver.AuthenticationRequiredError("Authentication required."), StoreUnavailableError, "password"),
        (driver.AuthorizationError("no permissions to run 'evalsha'"), StoreUnavailableError, "evalsha"),
        (NotConfirmedError("0 of 1 replicas have it"), StoreUnavailableError, "did not confirm"),
        (driver.ResponseError("OOM command not allowed"), StoreReadOnlyError, "maxmemory"),
        (driver.ResponseError(IN_A_SCRIPT + "-OOM command not allowed"), StoreReadOnlyError, "maxmemory"),
        (driver.ResponseError("MISCONF Errors writing to the AOF file"), StoreReadOnlyError, "disk"),
        (driver.WrongTypeError("Operation against a key"), StoreCorruptError, "prefix"),
        (driver.ResponseError(IN_A_SCRIPT + "WRONGTYPE Operation"), StoreCorruptError, "prefix"),
        (driver.ResponseError(IN_A_SCRIPT + "attempt to index a nil value"), StoreError, "refused a command"),
        (RedisForgetsError("as it was"), RedisForgetsError, "as it was"),
    ],
    ids=str,
)
def test_an_error_is_reported_as_what_it_means(error: Exception, expected: type[StoreError], said: str) -> None:
    told = translated(error, shown="redis://:***@h/0")
    assert type(told) is expected
    with pytest.raises(expected, match=said):
        raise told


def test_a_demoted_primary_is_looked_for_anew() -> None:
    assert is_lost(driver.ReadOnlyError("You can't write against a read only replica."))
    assert is_lost(driver.ResponseError(IN_A_SCRIPT + "-READONLY You can't write"))
    assert is_lost(TimeoutError())
    assert not is_lost(driver.ResponseError("OOM command not allowed"))
