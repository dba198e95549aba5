from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.ivr.caller import LONGEST, CallPhase, Position

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)


@given(
    path=st.lists(NAMES, min_size=1, max_size=4),
    tries=st.integers(0, 20),
    asked=st.integers(0, 100),
    phase=st.sampled_from(CallPhase),
)
def test_a_position_comes_back_as_it_was(path: list[str], tries: int, asked: int, phase: CallPhase) -> None:
    position = Position(path=tuple(path), tries=tries, asked=asked, phase=phase)
    token = position.write()
    assert Position.read(token) == position
    assert len(token) <= LONGEST


@given(path=st.lists(NAMES, min_size=1, max_size=40, unique=True))
def test_a_long_way_keeps_its_first_and_its_last_menu(path: list[str]) -> None:
    token = Position(path=tuple(path)).write()
    read = Position.read(token)
    assert len(token) <= LONGEST
    assert read is not None
    assert (read.path[0], read.path[-1]) == (path[0], path[-1])


@given(st.text(max_size=300))
def test_a_foreign_id_is_not_a_position(text: str) -> None:
    assert Position.read(text) is None


@given(place=st.integers(0, 100), character=st.sampled_from("abcxyz0189./-_q"))
def test_a_changed_token_is_not_a_position(place: int, character: str) -> None:
    token = Position(path=("main", "booking"), tries=1, asked=3).write()
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert (Position.read(changed) is None) == (changed != token)
