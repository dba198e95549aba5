"""The layers of the product, as the import contracts in pyproject.toml name them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache

from tests.architecture.imports import ROOT

PAGE = ROOT / "docs" / "architecture.md"


@cache
def layer_contracts() -> Mapping[str, Sequence[str]]:
    """The layers below each package that has some, the highest first, spelled as in the contract."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return {contract["containers"][0]: contract["layers"] for contract in contracts if contract["type"] == "layers"}


def rooms_of(layer: str) -> Sequence[str]:
    """The rooms of one layer: `a | b` may not import each other, `a : b` may, `(a)` may be missing."""
    return re.findall(r"\w+", layer)


def with_layers(text: str) -> str:
    """The text of the page with today's layers: in the block that follows each package in brackets."""
    for package, layers in layer_contracts().items():
        before, head, rest = text.partition(f"(`{package}`):\n\n```text\n")
        _, fence, after = rest.partition("```")
        text = before + head + "".join(f"{layer}\n" for layer in layers) + fence + after
    return text


def main() -> None:
    """Write the layers into the page."""
    PAGE.write_text(with_layers(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
