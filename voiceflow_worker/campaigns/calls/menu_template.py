"""A menu's question as the template of a campaign: every row's call begins with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.template import FlowTemplate
    from voiceflow_worker.ivr.menu import Menu


def opening_template(menu: Menu) -> FlowTemplate:
    """The call that begins in this menu, with `{{column}}` where its texts have `{column}`.

    Raises InvalidInputError for a menu whose prompt is a function: what it would say for a row is not known here.
    """
    from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
    from voiceflow_worker.ivr.speech import names_in
    from voiceflow_worker.model.flows.actions import Action

    texts = [
        text
        for text in (menu.prompt, menu.play, menu.own.voice_profile, menu.own.success_message, menu.own.failure_message)
        if text is not None
    ]
    if any(callable(text) for text in texts):
        raise InvalidInputError(
            f"the prompt or voice of menu {menu.name} is a function of the caller: enqueue these calls from Python "
            "(menu.call), or say with --template what they begin with"
        )
    for text in texts:
        for part in text.values() if not isinstance(text, str) and not callable(text) else (text,):
            if isinstance(part, str) and ("{{" in part or "{%" in part):
                raise InvalidInputError(
                    f"menu {menu.name} says a curly bracket, which a campaign's template would take for its own: say "
                    "with --template what its calls begin with"
                )
    data = {name: f"{{{{{name}}}}}" for text in texts for name in names_in(text)}
    body = menu.call(PLACEHOLDER, source=PLACEHOLDER, data=data).to_body()
    # The first call is each row's own, and its source that of the row or the option.
    body["callflow"][0] = {"action": Action.MAKE_CALL.value}
    return FlowTemplate.parse(body, name=f"menu {menu.name}")
