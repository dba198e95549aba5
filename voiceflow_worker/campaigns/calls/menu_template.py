"""A campaign template made from a menu's question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceflow_worker.errors import InvalidInputError, Remedy

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.template import FlowTemplate
    from voiceflow_worker.ivr.menu import Menu


def opening_template(menu: Menu) -> FlowTemplate:
    """The template of a call that begins with this menu. It has `{{column}}` where the menu's texts have `{column}`.

    Raises InvalidInputError if a text of the menu is a function, or contains `{{` or `{%`.
    """
    from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
    from voiceflow_worker.ivr.speech import names_in
    from voiceflow_worker.model.flows.actions import Action

    texts = [
        text
        for text in (menu.prompt, menu.play, menu.voice_profile, menu.success_message, menu.failure_message)
        if text is not None
    ]
    if any(callable(text) for text in texts):
        raise InvalidInputError(
            f"the prompt or voice of menu {menu.name} is a function, which a file cannot use: enqueue "
            f"these calls from Python (menu.call), or {Remedy.GIVE_TEMPLATE}"
        )
    for text in texts:
        for part in text.values() if not isinstance(text, str) and not callable(text) else (text,):
            if isinstance(part, str) and ("{{" in part or "{%" in part):
                raise InvalidInputError(
                    f"a text of menu {menu.name} contains {{{{ or {{%, which a campaign template would replace: "
                    f"{Remedy.GIVE_TEMPLATE}"
                )
    data = {name: f"{{{{{name}}}}}" for text in texts for name in names_in(text)}
    body = menu.call(PLACEHOLDER, source=PLACEHOLDER, data=data).to_body()
    # Each row has its own destination; the source comes from the row or the options.
    body["callflow"][0] = {"action": Action.MAKE_CALL.value}
    return FlowTemplate.parse(body, name=f"menu {menu.name}")
