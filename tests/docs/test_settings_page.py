from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from voiceflow_worker.setting_kinds import parse_duration
from voiceflow_worker.settings import PREFIX, Settings, load_settings, unknown_variables

PAGE = DOCS / "settings.md"


def documented() -> list[tuple[str, str]]:
    """(variable, default) of every setting of the page's two lists."""
    found = re.findall(r"^- `(VOICEFLOW_\w+)`(?: \[`(.+?)`\])?: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, default) for name, default in found]


def test_the_page_lists_every_setting_once_in_the_order_of_the_class() -> None:
    assert [name for name, _ in documented()] == [PREFIX + name.upper() for name in Settings.model_fields]


def test_the_default_on_the_page_is_the_default() -> None:
    for variable, said in documented():
        default = Settings.model_fields[variable.removeprefix(PREFIX).lower()].default
        match default:
            case None | ():
                assert not said
            case bool():
                assert said == ("yes" if default else "no")
            case timedelta():
                assert parse_duration(said) == default
            case float():
                assert float(said) == default
            case _:
                assert said == str(default)


def test_the_example_of_a_settings_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks(PAGE, language="toml")
    key = tmp_path / "key"
    key.write_text("a-key\n")
    (tmp_path / "voiceflow.toml").write_text(example.text.replace("/run/secrets/8x8", str(key)))
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.rate == 5
    assert not unknown_variables()
