"""TOML files of fields: of a campaign (`--campaign`), and those that the console saves and loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from voiceflow_worker.campaigns import reading as values
from voiceflow_worker.campaigns.fields import BY_NAME, EXCLUDING, WORDS, fields_of
from voiceflow_worker.campaigns.lists.columns import ColumnRoles
from voiceflow_worker.campaigns.lists.filters import filters_value, parts_of, text_of_parts
from voiceflow_worker.campaigns.lists.input_file import LARGEST_DOCUMENT, InputFile, read_text
from voiceflow_worker.campaigns.reading import Given, Of, paths, refuse, text_of, unknown
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Message
from voiceflow_worker.model.text.json_text import read_toml, toml_name, toml_text

_REPLACING: Final = (frozenset({"template", "say", "ivr"}), *map(frozenset, EXCLUDING))
"""The fields that replace each other: one that is given goes before the others in the file of options."""
_KNOWN: Final = fields_of(Of.CAMPAIGN)
_ONE_RUN: Final = frozenset(name for name, each in _KNOWN.items() if each.is_of_one_run)
_FILES: Final = frozenset({"file", "template"})
_FILTERS: Final = ("leave_out", "only")
_REASONS: Final = dict.fromkeys(
    _ONE_RUN, "concerns one run, and is not an option of a campaign; remove it here, and give it to the run"
)


def unknown_options(
    given: Mapping[str, Given],
    named: Callable[[str], str],
    known: Iterable[str] = fields_of(Of.CAMPAIGN),
    where: str = "",
) -> Iterator[tuple[str, str]]:
    """The fields that no campaign has, each with why it is refused."""
    return unknown(given, known, named, of="an option of a campaign", reasons=_REASONS, where=where)


def merged(given: Mapping[str, Given], file: Path) -> dict[str, Given]:
    """The given fields, and those of a file of options which they do not replace. Raises as `options_in`."""
    return _merged(given, options_in(file))


def _merged(given: Mapping[str, Given], kept: Mapping[str, Given]) -> dict[str, Given]:
    typed = frozenset(given)
    further = {
        name: found
        for name, found in kept.items()
        if not any(name in each and each & typed for each in (frozenset({name}), *_REPLACING))
    }
    found = {**given, **further}
    if "columns" in typed:
        found["columns"] = _with_columns(given["columns"], kept.get("columns"))
    return found


def _with_columns(typed: Given, kept: Given | None) -> Given:
    """Which column is what, of which the roles that are typed go before those that are kept in a file."""
    tables: list[Mapping[str, object]] = []
    for each in (kept, typed):
        try:
            tables.append({} if each is None else values.columns(each.value))
        except (ValueError, InvalidInputError) as error:
            raise InvalidInputError(Message(f"{'' if each is None else each.name}: {error}", error)) from None
    return replace(typed, value={**tables[0], **tables[1]})


def saved_options(given: Mapping[str, str], menu: Mapping[str, Any] | None = None) -> str:
    """The fields as a TOML file of options, with the questions of a `menu`.

    Those of one run and the file of the people are left out.
    """
    kept = {name: value for name, value in given.items() if value and name not in {*_ONE_RUN, *_FILES}}
    tables: dict[str, object] = {"columns": ColumnRoles.of(kept["columns"]).as_table()} if "columns" in kept else {}
    tables |= {name: filters_value(parts_of(kept[name])) for name in _FILTERS if name in kept}
    lines = [f"{name.replace('_', '-')} = {toml_text(value)}" for name, value in {**kept, **tables}.items()]
    if menu is not None:
        lines += ["", "[menu]", *_lines(menu, but="questions")]
        for question in menu["questions"]:
            lines += ["", "[[menu.questions]]", *_lines(question, but="keys")]
            lines += ["", "[menu.questions.keys]", *_lines(question.get("keys") or {})]
    return "".join(f"{line}\n" for line in lines)


def _lines(table: Mapping[str, object], *, but: str = "") -> Iterator[str]:
    return (
        f"{toml_name(name)} = {toml_text(value)}" for name, value in table.items() if name != but and value is not None
    )


def loaded_options(text: str, *, name: str) -> tuple[dict[str, str], Mapping[str, object] | None]:
    """The fields of a TOML file of options as texts, for a form, and the menu of questions if it is one of data.

    No file is read. Raises InvalidInputError.

    A field that names a file is refused: it is a file of the computer that the options were written on.
    """
    fields = _read(text, place=name)
    refuse(paths(fields, _KNOWN))
    menu = fields.pop("menu").value if _is_menu(fields) else None
    texts: dict[str, str] = {}
    for key, each in fields.items():
        try:
            texts[key] = _text(key, each.value)
        except (ValueError, InvalidInputError) as error:
            raise InvalidInputError(Message(f"{each.name}: {error}", error)) from None
    return texts, cast("Mapping[str, object] | None", menu)


def _is_menu(fields: Mapping[str, Given]) -> bool:
    """Whether a menu is written as data."""
    return "menu" in fields and isinstance(fields["menu"].value, Mapping)


def _text(name: str, value: object) -> str:
    """The value of a field as a text, for a form. Raises ValueError, InvalidInputError."""
    is_list = _KNOWN[name].schema in (BY_NAME, WORDS)
    own = {"columns": _columns_text, **dict.fromkeys(_FILTERS, _filters_text)}
    return (own.get(name) or (values.words if is_list else text_of))(value)


def _filters_text(value: object) -> str:
    return text_of_parts(parts_of(value))


def _columns_text(value: object) -> str:
    return ColumnRoles.of(values.columns(value)).as_text()


def options_in(path: Path) -> dict[str, Given]:
    """The fields in a TOML file. Raises CampaignFileError, InvalidInputError."""
    remedy = "give the file of the options, not the file of the people"
    text = read_text(InputFile(path), most_bytes=LARGEST_DOCUMENT, what="a file of options", remedy=remedy)
    return _read(text, place=str(path), folder=path.parent)


def _read(text: str, *, place: str, folder: Path | None = None) -> dict[str, Given]:
    """The fields in a TOML document, with `-` or `_` in their names. Raises InvalidInputError."""
    found: dict[str, Given] = {}
    for key, value in read_toml(text, place=place).items():
        name = key.replace("-", "_")
        if name in found:
            raise InvalidInputError(f"{place}: {key} and {found[name].name} are the same option; keep one of them")
        found[name] = Given(value, key, folder)
    known = _KNOWN.keys() - _ONE_RUN
    refuse(unknown_options(found, lambda name: name.replace("_", "-"), known, where=f"{place}: "))
    return {name: replace(each, name=f"{place}: {each.name}") for name, each in found.items()}
