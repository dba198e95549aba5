"""A campaign template made from a menu's question."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Remedy

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.template import FlowTemplate
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.ivr.speech import Text


def opening_template(menu: Menu) -> FlowTemplate:
    """The template of a call that begins with this menu. It has `{{column}}` where the menu's texts have `{column}`.

    Raises InvalidInputError if a text of the menu is a function, or contains `{{` or `{%`.
    """
    from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
    from voiceflow_worker.model.flows.actions import Action

    asking = copy(menu)
    for name in ("prompt", "play", "voice_profile", "success_message", "failure_message"):
        if (text := getattr(menu, name)) is not None:
            setattr(asking, name, _with_columns(menu, text))
    body = asking.call(PLACEHOLDER, source=PLACEHOLDER).to_body()
    # Each row has its own destination; the source comes from the row or the options.
    body["callflow"][0] = {"action": Action.MAKE_CALL.value}
    return FlowTemplate.parse(body, name=f"menu {menu.name}")


def _with_columns(menu: Menu, text: Text) -> Text:
    """The text for which the menu speaks `{{column}}` instead of the value of `{column}`."""
    from voiceflow_worker.ivr.speech import parts_of

    if callable(text):
        raise InvalidInputError(
            f"the prompt or voice of menu {menu.name} is a function, which a file cannot use: enqueue "
            f"these calls from Python (menu.call), or {Remedy.GIVE_TEMPLATE}"
        ).remedied(Remedy.GIVE_TEMPLATE)
    if isinstance(text, Mapping):
        return {language: str(_with_columns(menu, each)) for language, each in text.items()}
    if "{{" in text or "{%" in text:
        raise InvalidInputError(
            f"a text of menu {menu.name} contains {{{{ or {{%, which a campaign template would replace: "
            f"{Remedy.GIVE_TEMPLATE}"
        ).remedied(Remedy.GIVE_TEMPLATE)
    parts = (part if isinstance(part, str) else part.text for part in parts_of(text))
    return "".join(part.replace("{", "{{").replace("}", "}}") for part in parts)
