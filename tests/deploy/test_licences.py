"""What is installed with the package may be given on together with it, under its own licence (Apache-2.0)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("", "files", "postgres", "redis")
MAY = re.compile(
    r"Apache|MIT\b|BSD|ISC|0BSD|PSF|Python Software|MPL|Mozilla|LGPL|Lesser|Zlib|Unlicense|Public Domain|CC0",
    re.IGNORECASE,
)
MAY_NOT = re.compile(r"(?<!L)\bA?GPL|(?<!Lesser )General Public|Commercial|Proprietary|SSPL|BUSL", re.IGNORECASE)
LOOKED_AT = {
    "apsw": "any licence that the Open Source Initiative has approved",
    "docutils": "public domain and BSD; the GPL is that of files for Emacs, which are not installed",
}


def wanted(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        places = [{"extra": extra} for extra in (extras or frozenset([""]))]
        if requirement.marker is None or any(map(requirement.marker.evaluate, places)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def dependencies() -> set[str]:
    waiting, seen = [("voiceflow-worker", frozenset(EXTRAS))], set[str]()
    while waiting:
        for name, extras in wanted(*waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting.append((name, extras))
    return seen


def licence_of(name: str) -> str:
    about = distribution(name).metadata
    classifiers = [each for each in about.get_all("Classifier", []) if each.startswith("License ::")]
    told = [*about.get_all("License-Expression", []), "; ".join(classifiers), *about.get_all("License", [])]
    return next((each.split("\n")[0] for each in told if each), "")


def test_every_dependency_has_a_licence_that_goes_with_ours() -> None:
    found = {}
    for name in dependencies():
        try:
            found[name] = licence_of(name)
        except PackageNotFoundError:  # for another platform or version of Python
            continue
    assert len(found) > 30
    refused = {
        name: licence
        for name, licence in found.items()
        if name not in LOOKED_AT and (not MAY.search(licence) or MAY_NOT.search(licence))
    }
    assert not refused
