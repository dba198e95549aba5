"""Draw the Mermaid diagrams of the pages as pictures, for the website: `make_diagrams.py path/to/mermaid.min.js`.

Needs Chromium with chromedriver, and mermaid.min.js of the npm package `mermaid`. On GitHub the pages show the diagrams
themselves.
"""

from __future__ import annotations

import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium import webdriver

DOCS = Path(__file__).parents[1]
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
DRAW = """
const [text, done] = arguments;
mermaid.initialize({startOnLoad: false, theme: "neutral"});
mermaid.render("diagram", text).then(made => { document.body.innerHTML = made.svg; done() }, error => done("" + error));
"""


def picture_of(diagram: str) -> Path:
    """The picture of a diagram: its name is a digest of the text."""
    return DOCS / "images" / "diagrams" / f"{sha256(diagram.encode()).hexdigest()[:12]}.png"


def diagrams() -> list[str]:
    """The diagrams of all pages."""
    return [found[1] for page in sorted(DOCS.rglob("*.md")) for found in DIAGRAM.finditer(page.read_text("utf-8"))]


def main(library: Path) -> None:
    """Draw the diagrams, and delete the pictures of those that are gone."""
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,3000"):
        options.add_argument(option)
    with TemporaryDirectory() as scratch:
        page = Path(scratch, "page.html")
        page.write_text(f'<meta charset="utf-8"><body><script src="{library.resolve().as_uri()}"></script>')
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            driver.get(page.as_uri())
            drawn = {picture_of(each): _drawn(driver, each) for each in diagrams()}
        finally:
            driver.quit()
    folder = DOCS / "images" / "diagrams"
    folder.mkdir(exist_ok=True)
    for path in {*folder.glob("*.png")} - drawn.keys():
        path.unlink()
    for path, picture in drawn.items():
        path.write_bytes(picture)


def _drawn(driver: webdriver.Chrome, diagram: str) -> bytes:
    problem = driver.execute_async_script(DRAW, diagram)
    if problem:
        sys.exit(f"{problem}\n\n{diagram}")
    return driver.find_element("tag name", "svg").screenshot_as_png


if __name__ == "__main__":
    main(Path(sys.argv[1]))
