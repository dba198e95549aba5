"""The colours of the pages can be read, in light and in dark (WCAG 2.2, level AA)."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = resources.files("voiceflow_worker.webhooks.pages").joinpath("static/style.css").read_text(encoding="utf-8")
THEMES = ("light", "dark")
TEXT, SIGN = 4.5, 3.0
"""The least contrast of text (1.4.3), and of the edges of controls and parts of charts (1.4.11)."""
MEANINGS = ("good", "bad", "warn", "busy", "idle")


def colours(theme: str) -> dict[str, str]:
    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLE)
    return {name: (light, dark)[THEMES.index(theme)] for name, light, dark in pairs}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_texts_stand_out_from_every_ground(theme: str) -> None:
    found = colours(theme)
    pairs = [(text, ground) for text in ("text", "muted", "link") for ground in ("ground", "card", "raised")]
    pairs += [(name, ground) for name in MEANINGS for ground in (f"{name}-ground", "card", "ground")]
    weak = {pair: round(contrast(found[pair[0]], found[pair[1]]), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < TEXT} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_edges_of_fields_and_buttons_stand_out(theme: str) -> None:
    found = colours(theme)
    assert contrast(found["edge"], found["card"]) >= SIGN
    assert contrast(found["edge"], found["ground"]) >= SIGN
    grounds = re.findall(r"\.button\.(\w+)(?::hover)? \{ background: ([^;]+);", STYLE)
    assert {kind for kind, _ in grounds} == {"primary", "danger"}
    for kind, ground in grounds:
        for each in re.findall(r"#[0-9a-f]{6}", ground):
            assert contrast("#ffffff", each) >= TEXT, (kind, each)
