"""The file that a SQLite store URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker.backends.store_url import path_of
from voiceflow_worker.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///calls.db", "{here}/calls.db"),
        ("sqlite:////var/lib/calls.db", "/var/lib/calls.db"),
        ("file:///calls.db", "{here}/calls.db"),
        ("file:////var/lib/calls.db", "/var/lib/calls.db"),
        ("sqlite:///some/where/calls.db", "{here}/some/where/calls.db"),
        ("sqlite:///a b%20c@d.db", "{here}/a b%20c@d.db"),
        ("sqlite:calls.db", "{here}/calls.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(
    url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of(url) == Path(path.format(here=tmp_path))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://calls.db", "has a host"),
        ("sqlite://host/calls.db", "has a host"),
        ("sqlite:///", "names no file"),
        ("sqlite:", "names no file"),
        ("sqlite:////var/lib/", "names no file"),
        ("sqlite:///calls.db?mode=ro", "has options"),
        ("sqlite:///:memory:", "memory://"),
    ],
)
def test_a_url_that_names_no_file_says_what_to_write(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        path_of(url)
    assert url in str(caught.value)
