"""Menus by their names: `module:menu`, in the Python module in which they are written, or a TOML file with `[menu]`."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.check import check_menus
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.text.json_text import read_toml
from voiceflow_worker.model.text.wording import file_remedy, why_unreadable


def load_menus(
    names: Sequence[str] | None, *, voice_profile: str | None = None, folder: Path | None = None
) -> list[Menu]:
    """The menus with these names: see `load_menu`. Raises InvalidInputError for a menu with errors."""
    menus = [load_menu(name, voice_profile=voice_profile, folder=folder) for name in names or ()]
    # Menus of data are checked where they are read, each alone: two may have questions with one name.
    errors = [found for found in check_menus([each for each in menus if not each.definition]) if found.is_error]
    if errors:
        lines = "\n".join(f"  {found}" for found in errors)
        raise InvalidInputError(f"errors were found in {', '.join(names or ())}:\n{lines}")
    return menus


def load_menu(name: str, *, voice_profile: str | None = None, folder: Path | None = None) -> Menu:
    """The menu that `module:menu` names, or the one in a TOML file. Raises InvalidInputError if it does not exist.

    The module is in `folder`, in the working directory, or installed; the file in `folder`. A function that answers
    incoming calls becomes a menu with this voice, and so does a menu of a file that names none.
    """
    if name.endswith(".toml"):
        return _in_file(name, voice_profile, folder)
    module, attribute = _module(name, folder)
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if inspect.isroutine(found):
        # A handler answers incoming calls, which begin without a question.
        return Menu(
            re.sub(r"[^a-z0-9_-]", "-", attribute.lower())[:32].lstrip("-_"),
            opening=found,
            inbound=True,
            voice_profile=voice_profile,
            leads_to=list(_menus_in(module).values()) or None,
        )
    if not isinstance(found, Menu):
        there = _menus_in(module)
        said = "does not exist" if found is None else f"is {type(found).__name__}, not a Menu"
        near = f"; {module.__name__} has the menus {', '.join(there)}" if there else ""
        raise InvalidInputError(f"{name}: {attribute} {said}{near}")
    return found


def menus_beside(name: str) -> dict[str, Menu]:
    """All menus in the module of `module:menu`, by their names in the code; none for a file."""
    return {} if name.endswith(".toml") else _menus_in(_module(name)[0])


def _in_file(name: str, voice_profile: str | None, folder: Path | None) -> Menu:
    from voiceflow_worker.ivr.menu_data import read_menu

    try:
        text = ((folder or Path()) / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = file_remedy(error) if isinstance(error, OSError) else "; save it as UTF-8"
        raise InvalidInputError(f"{name} cannot be read: {why_unreadable(error)}{remedy}") from None
    document = read_toml(text, place=name)
    voice = document.get("voice_profile", document.get("voice-profile", voice_profile))
    try:
        return read_menu(document.get("menu"), voice_profile=voice)
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: menu: {error}") from None


def _menus_in(module: ModuleType) -> dict[str, Menu]:
    return {key: value for key, value in vars(module).items() if isinstance(value, Menu)}


def _module(name: str, folder: Path | None = None) -> tuple[ModuleType, str]:
    module, _, attribute = name.partition(":")
    if module.endswith(".toml"):
        raise InvalidInputError(f"{name!r} does not name a menu: a TOML file has one, so name {module} alone")
    if not module or not attribute or module.endswith(".py"):
        path = Path(module)
        hint = f"{'.'.join(path.with_suffix('').parts)}:{attribute or 'menu'}" if module.endswith(".py") else ""
        raise InvalidInputError(
            f"{name!r} does not name a menu: write MODULE:MENU, such as {hint or 'restaurant:main'}. The module must "
            "be importable from this folder. Or name a TOML file with [menu]"
        )
    places = list(dict.fromkeys(str(each) for each in (Path.cwd(), folder and folder.resolve()) if each is not None))
    for place in places:
        if place not in sys.path:
            sys.path.insert(0, place)
    try:
        return import_module(module), attribute
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InvalidInputError(f"{name}: {module} needs {error.name}, which is not installed") from error
        raise InvalidInputError(
            f"{name}: module {module} is neither in {' nor in '.join(places)} nor installed"
        ) from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidInputError(
            f"{name}: {module} cannot be imported: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
        ) from error
