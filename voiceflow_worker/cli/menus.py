"""Menus named on the command line: `module:menu`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu

IvrOption = Annotated[
    list[str] | None,
    Parameter(
        name="--ivr",
        metavar="MODULE:MENU",
        negative=(),
        help="Answer calls with this menu, such as restaurant:main for `main` in restaurant.py. May be repeated. The "
        "first menu answers calls that name no menu.",
    ),
]


def load_menus(names: Sequence[str] | None) -> list[Menu]:
    """The menus with these names. Raises InvalidInputError for a menu that does not exist or has errors."""
    from voiceflow_worker.ivr.graph.check import check_menus

    menus = [load_menu(name) for name in names or ()]
    errors = [found for found in check_menus(menus) if found.is_error]
    if errors:
        lines = "\n".join(f"  {found}" for found in errors)
        raise InvalidInputError(f"errors were found in {', '.join(names or ())}:\n{lines}")
    return menus


def load_menu(name: str) -> Menu:
    """The menu that `module:menu` names. Raises InvalidInputError if it does not exist."""
    from voiceflow_worker.ivr.menu import Menu

    module, attribute = _module(name)
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if inspect.isroutine(found):
        # A handler answers incoming calls, which begin without a question.
        return Menu(
            re.sub(r"[^a-z0-9_-]", "-", attribute.lower())[:32].lstrip("-_"),
            opening=found,
            inbound=True,
            voice_profile=settings_from().voice_profile,
            leads_to=list(_menus_in(module).values()) or None,
        )
    if not isinstance(found, Menu):
        there = _menus_in(module)
        said = "does not exist" if found is None else f"is {type(found).__name__}, not a Menu"
        near = f"; {module.__name__} has the menus {', '.join(there)}" if there else ""
        raise InvalidInputError(f"{name}: {attribute} {said}{near}")
    return found


def menus_beside(name: str) -> dict[str, Menu]:
    """All menus in the module of `module:menu`, by their names in the code."""
    return _menus_in(_module(name)[0])


def _menus_in(module: ModuleType) -> dict[str, Menu]:
    from voiceflow_worker.ivr.menu import Menu

    return {key: value for key, value in vars(module).items() if isinstance(value, Menu)}


def _module(name: str) -> tuple[ModuleType, str]:
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.endswith(".py"):
        path = Path(module)
        hint = f"{'.'.join(path.with_suffix('').parts)}:{attribute or 'menu'}" if module.endswith(".py") else ""
        raise InvalidInputError(
            f"{name!r} does not name a menu: write MODULE:MENU, such as {hint or 'restaurant:main'}. The module must "
            "be importable from this folder"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(module), attribute
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InvalidInputError(f"{name}: {module} needs {error.name}, which is not installed") from error
        raise InvalidInputError(f"{name}: module {module} is neither in {here} nor installed") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from error
    except Exception as error:
        import traceback

        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidInputError(
            f"{name}: {module} cannot be imported: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
        ) from error
