"""The table of classes in the glossary, made from the source: `./dev picture`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.imports import modules
from tests.docs.pages import DOCS, ROOT

PAGE = DOCS / "glossary.md"
HEADER = "| class | what it is | home |"
ELSEWHERE = ("voiceflow_worker.sandbox.", "voiceflow_worker.cli.", "voiceflow_worker.backends.contract.")
"""The sandbox is another program's world; the command line has commands; the contract suite has tests."""


def public_classes() -> Iterator[tuple[str, str, str]]:
    """Each public class: its name, the first line of its docstring, and its file."""
    for name, path in modules().items():
        if name.startswith(ELSEWHERE):
            continue
        home = path.relative_to(ROOT).as_posix().removeprefix("voiceflow_worker/")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, (ast.get_docstring(node) or "").split("\n")[0], home


def in_order() -> list[tuple[str, str, str]]:
    """The public classes in the order of their names."""
    return sorted(public_classes(), key=lambda each: (each[0].casefold(), each[2]))


def main() -> None:
    """Write the table anew, below its header."""
    before = PAGE.read_text(encoding="utf-8").partition(HEADER)[0]
    rows = [f"| `{name}` | {text.replace('|', chr(92) + '|')} | `{home}` |" for name, text, home in in_order()]
    PAGE.write_text("\n".join([before + HEADER, "|---|---|---|", *rows, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
