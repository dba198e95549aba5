"""The folder of a store's journal files: one for each store, however its URL is written, and without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker.backends.witness import journal_folder


@pytest.mark.parametrize(
    "same",
    [
        "redis://cache.invalid:6379/0",
        "redis://CACHE.invalid/0",
        "redis://user:secret@cache.invalid",
        "redis://cache.invalid?durability=best-effort",
        "redis://cache.invalid?prefix=voiceflow",
    ],
)
def test_one_store_has_one_folder_however_it_is_written(same: str, tmp_path: Path) -> None:
    folder = journal_folder(same, tmp_path)
    assert folder == journal_folder("redis://cache.invalid", tmp_path)
    assert "secret" not in folder.name


def test_the_nodes_of_a_cluster_may_stand_in_any_order(tmp_path: Path) -> None:
    one, other = "redis+cluster://a.invalid:7000,b.invalid:7001", "redis+cluster://b.invalid:7001,a.invalid:7000"
    assert journal_folder(one, tmp_path) == journal_folder(other, tmp_path)


def test_the_usual_port_and_database_of_sentinels_may_be_left_out(tmp_path: Path) -> None:
    one, other = "redis+sentinel://a.invalid/calls", "redis+sentinel://a.invalid:26379/calls/0"
    assert journal_folder(one, tmp_path) == journal_folder(other, tmp_path)
    assert journal_folder(one, tmp_path) != journal_folder("redis+sentinel://a.invalid/others", tmp_path)


@pytest.mark.parametrize("other", ["redis://h.invalid/1", "redis://h.invalid:6380", "redis://h.invalid?prefix=b"])
def test_two_stores_have_two_folders(other: str, tmp_path: Path) -> None:
    assert journal_folder(other, tmp_path) != journal_folder("redis://h.invalid?prefix=a", tmp_path)
    assert journal_folder(other, tmp_path) != journal_folder("redis://h.invalid", tmp_path)
