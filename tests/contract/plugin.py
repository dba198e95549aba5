"""The pytest plugin: `pytest --pyargs voiceflow_contract.at_url --store-url 'mystore://{name}'` runs the suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the store of `suite`."""
    group = parser.getgroup("voiceflow-worker")
    group.addoption(
        "--store-url",
        metavar="URL",
        help="the store that voiceflow_contract.at_url tests; {name} becomes a new name for each test, and {folder} an "
        "empty directory",
    )
