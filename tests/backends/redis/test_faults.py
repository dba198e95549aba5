"""The errors of a Redis server as errors of this library."""

from __future__ import annotations

import pytest

from voiceflow_worker.backends.redis.faults import NoPrimaryError, NotConfirmedError, ReplyError, is_lost, translated
from voiceflow_worker.errors import (
    RedisForgetsError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

IN_A_SCRIPT = "Error running script (call to f_1): @user_script:5: @user_script: 5: "


def test_an_error_is_reported_as_what_it_means() -> None:
    for error, expected, said in [
        (ConnectionError("Connection lost!"), StoreUnavailableError, "cannot be reached .*; check that it runs"),
        (TimeoutError("EVALSHA timed out after 5 seconds"), StoreUnavailableError, "timed out"),
        (TimeoutError(), StoreUnavailableError, "TimeoutError"),
        (ConnectionRefusedError("refused"), StoreUnavailableError, "refused"),
        (ReplyError("LOADING Redis is loading the dataset in memory"), StoreUnavailableError, "loading"),
        (ReplyError("CLUSTERDOWN The cluster is down"), StoreUnavailableError, "cannot answer now"),
        (ReplyError("TRYAGAIN Multiple keys"), StoreUnavailableError, "cannot answer now"),
        (NoPrimaryError("No primary found for 'calls'"), StoreUnavailableError, "No primary"),
        (ReplyError("MASTERDOWN Link with MASTER is down"), StoreUnavailableError, "cannot answer now"),
        (ReplyError("BUSY Redis is busy running a script"), StoreUnavailableError, "cannot answer now"),
        (ReplyError("NOREPLICAS Not enough good replicas"), StoreUnavailableError, "cannot answer now"),
        (
            ReplyError("READONLY You can't write against a read only replica."),
            StoreUnavailableError,
            r"redis\+sentinel",
        ),
        (ReplyError(IN_A_SCRIPT + "-READONLY You can't write"), StoreUnavailableError, "replica"),
        (ReplyError("MOVED 3999 127.0.0.1:6381"), StoreUnavailableError, r"redis\+cluster"),
        (ReplyError("NOAUTH Authentication required."), StoreUnavailableError, "password"),
        (ReplyError("WRONGPASS invalid username-password pair"), StoreUnavailableError, "password"),
        (ReplyError("ERR AUTH <password> called without any password"), StoreUnavailableError, "password"),
        (ReplyError("NOPERM no permissions to run 'evalsha'"), StoreUnavailableError, "evalsha.*ACL SETUSER"),
        (
            ReplyError(IN_A_SCRIPT + "The user executing the script can't run this command"),
            StoreUnavailableError,
            "ACL SETUSER",
        ),
        (NotConfirmedError("0 of 1 replicas have it"), StoreUnavailableError, "did not confirm"),
        (ReplyError("OOM command not allowed"), StoreReadOnlyError, "maxmemory"),
        (ReplyError(IN_A_SCRIPT + "-OOM command not allowed"), StoreReadOnlyError, "maxmemory"),
        (ReplyError("MISCONF Errors writing to the AOF file"), StoreReadOnlyError, "disk"),
        (ReplyError("WRONGTYPE Operation against a key"), StoreCorruptError, "prefix"),
        (ReplyError(IN_A_SCRIPT + "WRONGTYPE Operation"), StoreCorruptError, "prefix"),
        (ReplyError(IN_A_SCRIPT + "attempt to index a nil value"), StoreError, "refused a command"),
        (RedisForgetsError("as it was"), RedisForgetsError, "as it was"),
    ]:
        told = translated(error, shown="redis://:***@h/0")
        assert type(told) is expected
        with pytest.raises(expected, match=said):
            raise told


def test_a_demoted_primary_is_looked_for_anew() -> None:
    assert is_lost(ReplyError("READONLY You can't write against a read only replica."))
    assert is_lost(ReplyError(IN_A_SCRIPT + "-READONLY You can't write"))
    assert is_lost(TimeoutError())
    assert not is_lost(ReplyError("OOM command not allowed"))
