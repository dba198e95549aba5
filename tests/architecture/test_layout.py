"""The rules of the house that a machine can check: what the rooms import, and who reads the environment."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("voiceflow_worker", "airflow_provider") for path in sorted((ROOT / package).rglob("*.py"))
]


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        f"{place(path)}:{node.lineno}"
        for path in SOURCES
        if path != ROOT / "voiceflow_worker" / "settings.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in name.name for name in node.names))
    ]
    assert not readers, "voiceflow_worker/settings.py reads the environment, and no other file"
