"""Menus by their names: `module:menu`, in the Python module in which they are written, or a TOML file with `[menu]`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.check import check_menus
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.text.json_text import read_toml
from voiceflow_worker.model.text.wording import why_unreadable


def load_menus(
    names: Sequence[str] | None, *, voice_profile: str | None = None, folder: Path | None = None
) -> list[Menu]:
    """Return the menus with these names: see `load_menu`. Raises InvalidInputError for a menu with errors."""
    menus = [load_menu(name, voice_profile=voice_profile, folder=folder) for name in names or ()]
    # Menus of data are checked where they are read, each alone: two may have questions with one name.
    errors = [found for found in check_menus([each for each in menus if not each.definition]) if found.is_error]
    if errors:
        lines = "\n".join(f"  {found}" for found in errors)
        raise InvalidInputError(f"errors were found in {', '.join(names or ())}:\n{lines}")
    return menus


def load_menu(name: str, *, voice_profile: str | None = None, folder: Path | None = None) -> Menu:
    """Return the menu that `module:menu` names, or the one in a TOML file. Raises InvalidInputError if there is none.

    The module is in `folder`, in the working directory, or installed; the file in `folder`. A menu of a file that names
    no voice has this one.
    """
    if name.endswith(".toml"):
        return _in_file(name, voice_profile, folder)
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.endswith(".py"):
        raise InvalidInputError(
            f"{name!r} does not name a menu: write MODULE:MENU, such as restaurant:main, or the name of a TOML file"
        )
    loaded = _module(module, name, folder)
    menu: object = getattr(loaded, attribute, None)
    if not isinstance(menu, Menu):
        there = ", ".join(key for key, value in vars(loaded).items() if isinstance(value, Menu))
        raise InvalidInputError(f"{name}: {attribute} is no menu of {module}, which has {there or 'none'}")
    return menu


def _in_file(name: str, voice_profile: str | None, folder: Path | None) -> Menu:
    from voiceflow_worker.ivr.menu_data import read_menu

    try:
        text = ((folder or Path()) / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{name} cannot be read: {why_unreadable(error)}") from None
    document = read_toml(text, place=name)
    voice = document.get("voice_profile", document.get("voice-profile", voice_profile))
    try:
        return read_menu(document.get("menu"), voice_profile=voice)
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: menu: {error}") from None


def _module(module: str, name: str, folder: Path | None) -> object:
    places = dict.fromkeys(str(each) for each in (Path.cwd(), folder and folder.resolve()) if each is not None)
    sys.path[:0] = [place for place in places if place not in sys.path]
    try:
        return import_module(module)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidInputError(
            f"{name}: {module} cannot be imported from {' or '.join(places)}, nor from what is installed: "
            f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
        ) from error
