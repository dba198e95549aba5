"""The pictures of the rooms are those of today's imports."""

from __future__ import annotations

import pytest

from tests.architecture.layers import layer_contracts, rooms_of
from tests.architecture.picture import IMAGES, PICTURES, draw


@pytest.mark.parametrize(("name", "package"), PICTURES.items())
def test_a_picture_shows_the_imports_of_the_source(name: str, package: str) -> None:
    drawn = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == draw(package), f"docs/images/{name}.svg is stale: ./dev picture"


def test_a_picture_is_the_same_each_time() -> None:
    assert draw("voiceflow_worker") == draw("voiceflow_worker")


def test_every_room_is_a_box_and_arrows_that_follow_from_others_are_left_out() -> None:
    rooms = [room for layer in layer_contracts()["voiceflow_worker.model"] for room in rooms_of(layer)]
    drawn = draw("voiceflow_worker.model")
    assert drawn.count('class="box"') == len(rooms)
    assert len(rooms) - 2 <= drawn.count('class="arrow"') < len(rooms) * (len(rooms) - 1) / 2
