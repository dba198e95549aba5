from __future__ import annotations

import re
from datetime import timedelta

from tests.docs.pages import DOCS
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.settings import PREFIX, defaults

PAGE = DOCS / "reference.md"


def documented() -> list[tuple[str, str]]:
    """(variable, default) of every setting of the page's two lists."""
    found = re.findall(r"^- `(VOICEFLOW_\w+)`(?: \[`(.+?)`\])?: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, default) for name, default in found]


def test_the_page_lists_every_setting_once_in_the_order_of_the_class() -> None:
    assert [name for name, _ in documented()] == [PREFIX + name.upper() for name in defaults()]


def test_the_default_on_the_page_is_the_default() -> None:
    for variable, said in documented():
        default = defaults()[variable.removeprefix(PREFIX).lower()]
        match default:
            case None | ():
                assert not said
            case bool():
                assert said == ("yes" if default else "no")
            case timedelta():
                assert read_duration(said) == default
            case float():
                assert float(said) == default
            case _:
                assert said == str(default)
