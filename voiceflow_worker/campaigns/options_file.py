"""Read TOML files with the fields of a campaign (`--campaign`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from voiceflow_worker.campaigns.fields import EXCLUDING, fields_of
from voiceflow_worker.campaigns.lists.input_file import LARGEST_DOCUMENT, InputFile, read_text
from voiceflow_worker.campaigns.reading import Given, Of, refuse, unknown
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.json_text import read_toml

_REPLACING: Final = (frozenset({"template", "say", "ivr"}), *map(frozenset, EXCLUDING))
"""The fields that replace each other: one that is given goes before the others in the file of options."""
_KNOWN: Final = fields_of(Of.CAMPAIGN)
_ONE_RUN: Final = frozenset(name for name, each in _KNOWN.items() if each.is_of_one_run)
_REASONS: Final = dict.fromkeys(
    _ONE_RUN, "concerns one run, and is not an option of a campaign; remove it here, and give it to the run"
)


def unknown_options(
    given: Mapping[str, Given],
    named: Callable[[str], str],
    known: Iterable[str] = fields_of(Of.CAMPAIGN),
    where: str = "",
) -> Iterator[tuple[str, str]]:
    """Yield the fields that no campaign has, each with why it is refused."""
    return unknown(given, known, named, of="an option of a campaign", reasons=_REASONS, where=where)


def merged(given: Mapping[str, Given], file: Path) -> dict[str, Given]:
    """Return the given fields, and those of a file of options which they do not replace. Raises as `options_in`."""
    replaced = {name for each in (*({name} for name in given), *_REPLACING) if each & given.keys() for name in each}
    return {**{name: each for name, each in options_in(file).items() if name not in replaced}, **given}


def options_in(path: Path) -> dict[str, Given]:
    """Return the fields in a TOML file. Raises CampaignFileError, InvalidInputError."""
    remedy = "give the file of the options, not the file of the people"
    text = read_text(InputFile(path), most_bytes=LARGEST_DOCUMENT, what="a file of options", remedy=remedy)
    return _read(text, place=str(path), folder=path.parent)


def _read(text: str, *, place: str, folder: Path) -> dict[str, Given]:
    """Return the fields in a TOML document, with `-` or `_` in their names. Raises InvalidInputError."""
    found: dict[str, Given] = {}
    for key, value in read_toml(text, place=place).items():
        name = key.replace("-", "_")
        if name in found:
            raise InvalidInputError(f"{place}: {key} and {found[name].name} are the same option; keep one of them")
        found[name] = Given(value, key, folder)
    known = _KNOWN.keys() - _ONE_RUN
    refuse(unknown_options(found, lambda name: name.replace("_", "-"), known, where=f"{place}: "))
    return {name: replace(each, name=f"{place}: {each.name}") for name, each in found.items()}
