"""The contract of `Records`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import NOW, at_once
from voiceflow_worker.core.ports import Store

MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)
SPACE = "suppressed"

TEXTS = ["", "{}", "[]", "123456789012345678901234567890", "Grüße 你好 👋🏽", "x" * 300_000, "a\x00b", "'; -- %_*?["]


class RecordsContract(Ground):
    """Tests of records: small values under keys, each with an expiry."""

    async def put(self, store: Store, *keys: str, space: str = SPACE, value: str = "v", minutes: int = 0) -> None:
        until = NOW + minutes * MINUTE if minutes else None
        await store.records.put(space, dict.fromkeys(keys, value), expires_at=until, now=NOW)

    async def test_stored_values_are_given_and_unknown_keys_are_absent(self, store: Store, other: Store) -> None:
        await store.records.put(SPACE, {"a": "1", "b": "2"}, expires_at=None, now=NOW)
        assert dict(await other.records.get(SPACE, ["b", "c", "a"], now=NOW)) == {"a": "1", "b": "2"}

    @pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
    async def test_keys_and_values_are_stored_unchanged(self, store: Store, text: str) -> None:
        key = f"key {text[:100]}"
        await store.records.put(SPACE, {key: text}, expires_at=None, now=NOW)
        assert dict(await store.records.get(SPACE, [key], now=NOW)) == {key: text}
        assert dict(await store.records.put_if_absent(SPACE, {key: "x"}, expires_at=None, now=NOW)) == {key: text}
        assert list(await store.records.scan(SPACE, now=NOW)) == [(key, text)]

    async def test_an_equal_value_gets_the_new_expiry(self, store: Store) -> None:
        await self.put(store, "mine", "theirs", value="me", minutes=1)
        await store.records.put(SPACE, {"theirs": "them"}, expires_at=NOW + MINUTE, now=NOW)
        later = NOW + 3 * MINUTE
        await store.records.put_if_absent(SPACE, {"mine": "me", "theirs": "me"}, expires_at=later, now=NOW)
        assert dict(await store.records.get(SPACE, ["mine", "theirs"], now=NOW + 2 * MINUTE)) == {"mine": "me"}

    async def test_calls_without_keys_are_allowed(self, store: Store) -> None:
        await store.records.put(SPACE, {}, expires_at=None, now=NOW)
        assert dict(await store.records.put_if_absent(SPACE, {}, expires_at=None, now=NOW)) == {}
        assert dict(await store.records.get(SPACE, [], now=NOW)) == {}
        await store.records.delete(SPACE, {})

    async def test_namespaces_do_not_mix(self, store: Store) -> None:
        await self.put(store, "a", space="one", value="1")
        await self.put(store, "a", space="two", value="2")
        await store.records.delete("one", {"a": None})
        assert dict(await store.records.get("one", ["a"], now=NOW)) == {}
        assert dict(await store.records.get("two", ["a"], now=NOW)) == {"a": "2"}
        assert list(await store.records.scan("one", now=NOW)) == []

    async def test_a_new_value_and_its_expiry_replace_the_old(self, store: Store) -> None:
        await self.put(store, "a", value="old", minutes=1)
        await self.put(store, "a", value="new", minutes=3)
        assert dict(await store.records.get(SPACE, ["a"], now=NOW + 2 * MINUTE)) == {"a": "new"}

    async def test_put_if_absent_keeps_a_stored_value(self, store: Store) -> None:
        await self.put(store, "a", value="mine")
        given = await store.records.put_if_absent(SPACE, {"a": "yours", "b": "yours"}, expires_at=None, now=NOW)
        assert dict(given) == {"a": "mine", "b": "yours"}
        assert dict(await store.records.get(SPACE, ["a", "b"], now=NOW)) == {"a": "mine", "b": "yours"}

    async def test_one_of_several_concurrent_claims_wins(self, store: Store, other: Store) -> None:
        winners: list[str] = []

        async def claim(handle: Store, number: int) -> None:
            mine = {"+6587654321": f"job-{number}"}
            given = await handle.records.put_if_absent(SPACE, mine, expires_at=None, now=NOW)
            winners.append(given["+6587654321"])

        await at_once(20, claim, store, other)
        assert len(winners) == 20
        assert set(winners) == set((await store.records.get(SPACE, ["+6587654321"], now=NOW)).values())

    async def test_a_repeated_claim_succeeds(self, store: Store) -> None:
        for _ in range(2):
            given = await store.records.put_if_absent(SPACE, {"a": "me"}, expires_at=NOW + MINUTE, now=NOW)
            assert dict(given) == {"a": "me"}

    async def test_a_record_is_absent_from_its_expiry_on(self, store: Store) -> None:
        await self.put(store, "a", minutes=1)
        just_before = NOW + MINUTE - MICROSECOND
        assert dict(await store.records.get(SPACE, ["a"], now=just_before)) == {"a": "v"}
        assert len(await store.records.scan(SPACE, now=just_before)) == 1
        assert dict(await store.records.get(SPACE, ["a"], now=NOW + MINUTE)) == {}
        assert list(await store.records.scan(SPACE, now=NOW + MINUTE)) == []

    async def test_an_expired_record_can_be_claimed(self, store: Store) -> None:
        await store.records.put_if_absent(SPACE, {"a": "first"}, expires_at=NOW + MINUTE, now=NOW)
        claim = {"a": "second"}
        early = await store.records.put_if_absent(SPACE, claim, expires_at=None, now=NOW + MINUTE - MICROSECOND)
        late = await store.records.put_if_absent(SPACE, claim, expires_at=None, now=NOW + MINUTE)
        assert (early["a"], late["a"]) == ("first", "second")
        assert dict(await store.records.get(SPACE, ["a"], now=NOW + 9 * MINUTE)) == {"a": "second"}

    async def test_a_record_without_an_expiry_stays(self, store: Store) -> None:
        await self.put(store, "a")
        far = NOW + timedelta(days=36500)
        assert await store.records.prune(now=far) == 0
        assert dict(await store.records.get(SPACE, ["a"], now=far)) == {"a": "v"}

    async def test_records_are_deleted(self, store: Store) -> None:
        await self.put(store, "a", "b", "c")
        await store.records.delete(SPACE, {"a": None, "c": None, "unknown": None})
        assert [key for key, _ in await store.records.scan(SPACE, now=NOW)] == ["b"]

    async def test_a_record_is_deleted_only_with_the_expected_value(self, store: Store) -> None:
        await store.records.put(SPACE, {"a": "mine", "b": "mine"}, expires_at=None, now=NOW)
        await store.records.delete(SPACE, {"a": "mine", "b": "somebody else's", "unknown": "mine"})
        assert dict(await store.records.get(SPACE, ["a", "b"], now=NOW)) == {"b": "mine"}

    async def test_an_empty_expected_value_is_compared(self, store: Store) -> None:
        await store.records.put(SPACE, {"full": "x", "empty": ""}, expires_at=None, now=NOW)
        await store.records.delete(SPACE, {"full": "", "empty": ""})
        assert dict(await store.records.get(SPACE, ["full", "empty"], now=NOW)) == {"full": "x"}

    async def test_a_scan_gives_keys_in_order_and_in_pages(self, store: Store) -> None:
        keys = [f"k{number:04d}" for number in range(900)]
        await self.put(store, *reversed(keys))
        listed: list[str] = []
        while page := await store.records.scan(SPACE, now=NOW, after=listed[-1] if listed else "", limit=250):
            assert len(page) <= 250
            listed += [key for key, _ in page]
        assert listed == keys
        assert len(await store.records.scan(SPACE, now=NOW)) == 900
        assert list(await store.records.scan(SPACE, now=NOW, limit=0)) == []

    async def test_a_prefix_is_taken_literally(self, store: Store) -> None:
        await self.put(store, "a", "a%", "a%b", "a_b", "aXb", "ab", "b", "A%b")
        found = await store.records.scan(SPACE, now=NOW, prefix="a%")
        assert [key for key, _ in found] == ["a%", "a%b"]
        assert [key for key, _ in await store.records.scan(SPACE, now=NOW, prefix="a", after="a%b", limit=2)] == [
            "aXb",
            "a_b",
        ]

    @pytest.mark.parametrize("last", ["z", "\x7f", "\ud7ff", "\uffff", "\U0010ffff"], ids=ascii)
    async def test_a_prefix_may_end_in_any_character(self, store: Store, last: str) -> None:
        prefix = f"p{last}"
        await self.put(store, "o", "p", prefix, f"{prefix}\x00", f"{prefix}\U0010ffff{last}", "q", "\U0010ffff")
        found = await store.records.scan(SPACE, now=NOW, prefix=prefix)
        assert [key for key, _ in found] == [prefix, f"{prefix}\x00", f"{prefix}\U0010ffff{last}"]

    async def test_pruning_drops_expired_records_and_gives_their_number(self, store: Store) -> None:
        await self.put(store, *(f"old-{number}" for number in range(2300)), minutes=1)
        await self.put(store, "elsewhere", space="other", minutes=1)
        await self.put(store, "later", minutes=2)
        assert await store.records.prune(now=NOW + MINUTE - MICROSECOND) == 0
        assert await store.records.prune(now=NOW + MINUTE) == 2301
        assert await store.records.prune(now=NOW + MINUTE) == 0
        assert [key for key, _ in await store.records.scan(SPACE, now=NOW)] == ["later"]

    async def test_one_call_takes_three_thousand_records(self, store: Store) -> None:
        values = {f"+65{number:08d}": str(number) for number in range(3000)}
        assert dict(await store.records.put_if_absent(SPACE, values, expires_at=None, now=NOW)) == values
        assert dict(await store.records.get(SPACE, list(values), now=NOW)) == values
        await store.records.delete(SPACE, dict.fromkeys(values))
        assert list(await store.records.scan(SPACE, now=NOW)) == []
