from __future__ import annotations

import re
from pathlib import Path

from tests.docs.command_page import commands
from tests.docs.pages import DOCS, ROOT, anchors, links, prose, section
from voiceflow_worker.cli.program import program

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


def test_every_file_that_the_map_of_the_source_names_exists() -> None:
    names = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*(?:/|\.py))`", (DOCS / "architecture.md").read_text("utf-8")))
    assert len(names) > 20
    missing = [name for name in names if not (ROOT / name).exists() and not (ROOT / "voiceflow_worker" / name).exists()]
    assert not missing, f"no such file: {', '.join(sorted(missing))}"


def test_the_reading_path_has_at_most_4500_lines() -> None:
    text = section((DOCS / "architecture.md").read_text("utf-8"), "Read in this order")
    files = re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", text.partition("\nThen run")[0])
    assert len(files) > 5
    assert sum(len((ROOT / "voiceflow_worker" / name).read_text("utf-8").splitlines()) for name in files) <= 4500


def test_the_glossary_has_its_terms_in_order() -> None:
    terms = re.findall(r"^\| ([^|]+?) \|", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)[1:]
    assert len(terms) >= 25
    assert terms == sorted(terms, key=lambda term: re.sub(r"\W", " ", term.lower()))


def test_the_picture_of_the_demo_shows_options_that_exist() -> None:
    text = re.sub(r"<[^>]+>", " ", (DOCS / "images/demo.svg").read_text("utf-8")).replace("&#160;", " ")
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    known = {
        name for _, app in commands(program()) for each in app.assemble_argument_collection() for name in each.names
    }
    assert shown <= known | {"--help"}


def test_no_table_is_broken_by_an_empty_line() -> None:
    for page in PAGES:
        lines = prose(page).splitlines()
        for number, (before, row, after) in enumerate(zip(lines, lines[1:], lines[2:], strict=False), 2):
            if row.startswith("|") and not before.startswith("|"):
                assert re.fullmatch(r"\|[\s|-]+\|", after), f"{page.name}:{number}: a row without a header: {row}"


def test_every_finding_is_behind_a_rule_that_a_test_holds() -> None:
    page = (ROOT / "findings/README.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| `(.+)` \|$", page, re.MULTILINE))
    assert {path.stem for path in (ROOT / "findings").glob("*.sh")} == table.keys()
    assert len(table) <= 12
    for test in table.values():
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text("utf-8")
        assert not name or f"def {name}(" in text, test
