"""The whole campaign: `./dev campaign`. It takes some minutes."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.campaign.run import SHORT, WHOLE, campaign


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev campaign", description=__doc__)
    parser.add_argument("--short", action="store_true", help="1,000 rows, as in the tests")
    parser.add_argument("--folder", type=Path, help="where its files go, an empty folder; default: a temporary one")
    parser.add_argument("--pictures", type=Path, help="where the pictures go; default: into that folder")
    parser.add_argument("--store", default="", help="the URL of an empty store; default: a file in that folder")
    parser.add_argument(
        "--ahead",
        type=int,
        metavar="SECONDS",
        help="from the first command to the moment of the window: more on a busy machine",
    )
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary) / "campaign").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        pictures = (given.pictures or folder / "pictures").resolve()
        plan = SHORT if given.short else WHOLE
        if given.ahead is not None:
            plan = replace(plan, ahead=timedelta(seconds=given.ahead))
        with campaign(folder, pictures, plan, store=given.store) as run:
            try:
                run.run(Path(temporary) / "profile")
            finally:
                (folder / "story.txt").write_text(run.desk.story(), encoding="utf-8")
                print(run.desk.story())  # noqa: T201 - this is a command
        figures = json.dumps(run.figures, indent=2)
        (folder / "figures.json").write_text(figures, encoding="utf-8")
        print(figures)  # noqa: T201


if __name__ == "__main__":
    main()
