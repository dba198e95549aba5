from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from tests.docs.pages import DOCS, ROOT, anchors, blocks, links, prose

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])


def test_every_link_within_the_repository_leads_somewhere() -> None:
    for page in PAGES:
        broken: list[str] = []
        for link in links(page):
            if link.startswith(("https://", "http://")):
                continue
            path, _, anchor = link.partition("#")
            target = page if not path else (page.parent / path).resolve()
            if not target.exists():
                broken.append(f"{link}: no such file")
            elif anchor and anchor not in anchors(target):
                broken.append(f"{link}: no such heading; there are {', '.join(sorted(anchors(target)))}")
        assert not broken, "\n".join(broken)


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
        waiting += [target for target in targets if target.suffix == ".md" and target.is_relative_to(DOCS)]
    unreached = set(DOCS.rglob("*.md")) - reached
    assert not unreached, f"no page links to {', '.join(sorted(page.name for page in unreached))}"


def test_every_diagram_has_its_picture_for_the_website() -> None:
    drawn = {path.stem for path in (DOCS / "images" / "diagrams").iterdir()}
    texts = [block.text for page in DOCS.rglob("*.md") for block in blocks(page, language="mermaid")]
    assert drawn == {sha256(text.encode()).hexdigest()[:12] for text in texts}, "run docs/images/make_diagrams.py"


def test_every_file_that_the_map_of_the_source_names_exists() -> None:
    names = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*(?:/|\.py))`", (DOCS / "architecture.md").read_text("utf-8")))
    assert len(names) > 40
    missing = [name for name in names if not (ROOT / name).exists() and not (ROOT / "voiceflow_worker" / name).exists()]
    assert not missing, f"no such file: {', '.join(sorted(missing))}"


def test_no_table_is_broken_by_an_empty_line() -> None:
    for page in PAGES:
        lines = prose(page).splitlines()
        for number, (before, row, after) in enumerate(zip(lines, lines[1:], lines[2:], strict=False), 2):
            if row.startswith("|") and not before.startswith("|"):
                assert re.fullmatch(r"\|[\s|-]+\|", after), f"{page.name}:{number}: a row without a header: {row}"


def test_every_finding_stands_behind_a_rule_that_a_test_holds() -> None:
    page = (ROOT / "findings/README.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| `(.+)` \|$", page, re.MULTILINE))
    assert {path.stem for path in (ROOT / "findings").glob("*.sh")} == table.keys()
    assert len(table) <= 12
    for test in table.values():
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text("utf-8")
        assert not name or f"def {name}(" in text, test
