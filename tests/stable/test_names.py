"""The names of the last release are kept: what may be added, what may not change, and that nothing has.

What commands print and programs import takes longer to collect: `./dev lint` compares these too.
"""

from __future__ import annotations

import json

import pytest

from tests.stable.names import FILE, KINDS, REQUIRED, broken, is_major_step, problems

LISTED: dict[str, dict[str, str]] = json.loads(FILE.read_text("utf-8"))


@pytest.mark.parametrize("kind", ["settings", "options", "metrics", "http"])
def test_the_sources_keep_the_names_of_the_last_release(kind: str) -> None:
    assert not problems([kind])


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_name_that_is_gone_or_has_another_type_is_found(kind: str) -> None:
    old = LISTED[kind]
    assert len(old) > 40
    assert broken(kind, old, old) == []
    for name in list(old)[:: max(1, len(old) // 60)]:
        left = {each: what for each, what in old.items() if each != name}
        assert broken(kind, old, left) == [f"{kind}: {name} ({old[name]}) is gone"]
        if not old[name].endswith(REQUIRED):
            assert broken(kind, left, old) == [], f"{name} is an addition"
        if old[name] != "null":
            assert broken(kind, old, {**old, name: "Fraction"}), name


def test_what_is_taken_may_become_more_and_what_is_given_less() -> None:
    for kind, name, small, large in (
        ("settings", "VOICEFLOW_OUTCOMES", "none | webhook", "both | none | webhook"),
        ("options", "voiceflow call --to", "str", "Path | str"),
        ("python", "voiceflow_worker.f(x)", "int at 1, required", "int | str at 1"),
        ("http", "request CallRequest.say", "null | string, required", "array | null | string"),
    ):
        assert broken(kind, {name: small}, {name: large}) == []
        assert broken(kind, {name: large}, {name: small})
    for kind, name, small, large in (
        ("python", "voiceflow_worker.f", "-> Job", "-> Job | None"),
        ("http", "answer Call.state", "string", "null | string"),
        ("json", "status .rate", "number", "number|text"),
    ):
        assert broken(kind, {name: large}, {name: small}) == []
        assert broken(kind, {name: small}, {name: large})
    assert broken("json", {"status .next_at": "null"}, {"status .next_at": "text"}) == []
    assert broken("metrics", {"a": "queue"}, {"a": "queue,batch"})
    assert broken("python", {"m.f(x)": "int at 1"}, {"m.f(x)": "int at 2"})


def test_what_is_new_may_not_be_demanded_of_a_name_that_was_there() -> None:
    old = {"m.f": "-> int", "m.g": "-> int"}
    assert broken("python", old, {**old, "m.f(x)": "int", "m.h": "-> int", "m.h(x)": f"int, {REQUIRED}"}) == []
    (found,) = broken("python", old, {**old, "m.f(x)": f"int, {REQUIRED}"})
    assert found == "python: m.f(x) is demanded of those who do not know it"


def test_only_a_major_version_in_the_changelog_may_break_names() -> None:
    changelog = "# Changelog\n\n## 2.0.0 (2027-01-01)\n"
    assert is_major_step("1.4.0", "2.0.0", changelog)
    assert not is_major_step("1.4.0", "1.5.0", changelog)
    assert not is_major_step("1.4.0", "3.0.0", changelog)
