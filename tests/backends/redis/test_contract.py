"""A Redis store keeps the contract of `core/ports/store.py` on one server.

On other servers it is the same program: the newest server is asked about the script that does most, a cluster about
what spans its slots and nodes, a pair behind a sentinel about writes that a replica must confirm.
"""

from __future__ import annotations

import hashlib
from functools import partial

import pytest

from tests.contract.defects import assert_found
from tests.contract.suite import (
    JobsContract,
    Opener,
    ShareContract,
    StoreContract,
    WaitContract,
    WriteContract,
)
from tests.support.everyday import spread
from tests.support.redis_server import RedisCluster, RedisServer, WatchedPair
from tests.support.redis_users import RULE, url_of
from voiceflow_worker.backends.redis import faults as scripts
from voiceflow_worker.backends.redis import finding, manager
from voiceflow_worker.backends.redis.store import open_redis
from voiceflow_worker.model.copying import replace


@pytest.fixture(autouse=True)
def timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for the longest script, and for its replication, on a machine that does much else."""
    monkeypatch.setattr("voiceflow_worker.backends.redis.connection.ANSWER_TIMEOUT", 60.0)
    monkeypatch.setattr("voiceflow_worker.backends.redis.manager.CONFIRM_WITHIN_MS", 50_000)


class TestRedis(StoreContract):
    """As a user with the rights that docs/stores.md asks for, and no others."""

    @pytest.fixture
    def opener(self, redis_server: RedisServer) -> Opener:
        return partial(open_redis, url_of(redis_server, RULE))


class TestInShortPages(JobsContract):
    """Each script reads, examines and sorts few jobs, so that every read needs several."""

    @pytest.fixture
    def opener(self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Opener:
        short(monkeypatch)
        return partial(open_redis, redis_server.url)


def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("PAGE", 70), ("LOOKS", 90)):
        monkeypatch.setattr(finding, name, most)


@pytest.mark.slow
class TestNewerServer(WriteContract):
    @pytest.fixture
    def opener(self, newer_server: RedisServer) -> Opener:
        newer_server.ask("FLUSHALL")
        return partial(open_redis, newer_server.url)


@pytest.mark.slow
class TestCluster(WriteContract, JobsContract, WaitContract, ShareContract):
    @pytest.fixture
    def opener(self, cluster: RedisCluster) -> Opener:
        cluster.flush()
        return partial(open_redis, cluster.url)


@pytest.mark.slow
class TestBehindASentinel(WriteContract, ShareContract):
    @pytest.fixture
    def opener(self, lasting_pair: WatchedPair) -> Opener:
        lasting_pair.primary.ask("FLUSHALL")
        return partial(open_redis, f"{lasting_pair.url}?replicas=1")


MUTATIONS = {
    "writes are not compared with what was written": (
        "    if was_written(write) then", "    if false then",
        "test_a_bulk_write_that_is_written_again_changes_counts_and_tells_nothing",
    ),
    "a write is written though a condition failed": (
        "        elseif not answers[index] then\n            apply(write)",
        "        elseif not answers[index] or answers[index][1] == 'not free' then\n            apply(write)",
        "test_of_a_refused_write_nothing_is_written",
    ),
    "of several changes the last one decides": (
        "            if revision ~= change.old and", "            if change == write.changes[#write.changes] and",
        "test_of_several_changes_one_refusal_refuses_all",
    ),
    "a tombstone is given up to everybody": (
        "if other.id == id and (other.forgets", "if (other.forgets",
        "test_a_tombstone_gives_its_key_up_and_another_does_not",
    ),
    "a record has no owner": (
        "    if not value or owner == cjson.null then\n", "    if true then\n",
        "test_conditions_pass_over_the_records_of_their_owner_and_of_the_past",
    ),
    "an owner is any beginning of an id": (
        " and (after == '' or after == '.' or after == ' ')", "",
        "test_conditions_pass_over_the_records_of_their_owner_and_of_the_past",
    ),
    "a limit limits nothing": (
        "if #found > most then", "if false then",
        "test_two_writes_that_contradict_each_other_are_never_both_written",
    ),
    "a limit tells the record that ends last": (
        "return (tonumber(one[3]) or math.huge) < (", "return (tonumber(one[3]) or math.huge) > (",
        "test_a_limit_tells_the_record_with_whose_end_it_holds_again",
    ),
    "a group is its only record": (
        "    if has_members then\n", "    if false then\n", "test_conditions_concern_whole_groups_and_no_others",
    ),
    "a swap is not compared": (
        "    if not holds then\n", "    if false then\n",
        "test_a_repeat_that_comes_after_a_later_write_changes_nothing",
    ),
    "a gate is never closed": (
        "        holds = holds or value == put\n    end\n",
        "        holds = holds or value == put\n    end\n    holds = holds or namespace == 'gate'\n",
        "test_nothing_is_written_under_a_gate_whose_closing_has_returned",
    ),
    "a tombstone owns nothing": (
        "string.match(tombstone_of(of, key, now) or '', '^[^|]*|([^|]*)|([^|]*)|", "string.match('', '^()()()",
        "test_a_taken_key_tells_its_owner",
    ),
    "every put replaces": (
        "if was == nil or mode == 'always' then", "if true then", "test_a_put_does_what_its_mode_says",
    ),
    "a drop forgets its value": (
        "if value and (drop[4] == '' or drop[4] == '=' .. value) then\n            forget_record",
        "if value then\n            forget_record",
        "test_a_drop_deletes_a_record_that_has_its_value",
    ),
    "any server will do": (
        "return is_same and not", "return not",
        "test_for_another_server_nothing_is_written",
    ),
    "what the store had is not compared": (
        "return is_same and not failure(guard.known)", "return is_same",
        "test_without_what_the_store_certainly_had_nothing_is_written",
    ),
    "a not verified bulk write forgets what was written": (
        "was_written(write) and {'done'} or {'not_verified'}", "{'not_verified'}",
        "test_for_another_server_nothing_is_written",
    ),
    "counters leave a write out": (
        "        count(batch, field, amount)\n", "", "test_counters_are_the_sums_of_what_writes_carry",
    ),
    "a deleted job is counted nowhere": (
        "field, -amount)", "field, 0)", "test_deleted_jobs_stay_in_the_totals_of_their_batch_while_it_has_jobs",
    ),
    "nobody is woken": ("        wake(write.wakes)\n", "", "test_each_write_that_wakes_the_queue_raises_its_count"),
    "what is due at the very time is left out": (
        "'-inf', asked.latest", "'-inf', '(' .. asked.latest", "test_a_read_gives_its_jobs",
    ),
    "a page begins behind all that is due at the time of the last": (
        "'-inf', '(' .. time)", "'-inf', time)", "test_a_thousand_jobs_are_found_at_once",
    ),
    "a full page is the last one": (
        "(position < #ids or not is_all) and id or ''", "''", "test_a_thousand_jobs_are_found_at_once",
    ),
    "a walk passes every state": (
        "return not state\n        or (asked.states == '' or", "return not state\n        or (true or",
        "test_each_read_has_all_its_jobs_in_its_order",
    ),
    "a walk passes every outcome": (
        "and (asked.outcomes == '' or", "and (true or", "test_a_read_gives_its_jobs",
    ),
    "rare states forget the order": (
        "return one > other", "return one < other", "test_each_read_has_all_its_jobs_in_its_order",
    ),
    "states go on behind the position up to which all are known": (
        "while last and", "while false and", "test_each_read_has_all_its_jobs_in_its_order",
    ),
    "rare states of a batch are those of the queue": (
        "asked.batch == batch)", "true)", "test_each_read_has_all_its_jobs_in_its_order",
    ),
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(("was", "now", "test"), spread(MUTATIONS, every=4))
async def test_the_contract_finds_that(
    was: str, now: str, test: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence that is broken on purpose in the script turns its test red."""
    short(monkeypatch)
    kept = next(each for each in map(scripts.script, ("write", "jobs")) if was in each.text)
    text = kept.text.replace(was, now)
    changed = replace(kept, text=text, sha=hashlib.sha1(text.encode()).hexdigest())
    monkeypatch.setattr(manager, "script", lambda name: changed if name == kept.name else scripts.script(name))
    async with open_redis(redis_server.url) as store:
        await assert_found(test, store)
