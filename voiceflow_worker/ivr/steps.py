"""What follows a key press: where the call goes on, or how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from voiceflow_worker.ivr.caller import Caller
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.model.flows.callflow import CallFlow

Text: TypeAlias = "str | Mapping[str, str] | Callable[[Caller], str]"
"""What is spoken: a text in which `{name}` stands for a value of the job's data, or one such text for each language, or
a function of the caller that gives the text as it is to be spoken."""


@dataclass(frozen=True, slots=True)
class End:
    """Hang up, after a last word if there is one."""

    text: Text | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """What was pressed will not do: say why, and ask once more. It counts as a try: after the last, the fallback."""

    text: Text | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """Go to a menu, and say something before its prompt; `Menu.saying` makes it."""

    menu: Menu
    text: Text


class Back(Enum):
    """Where the caller came from."""

    BACK = "back"


END = End()
BACK = Back.BACK
"""To the menu that led here; in the first menu, to that menu itself."""

Step: TypeAlias = "Menu | CallFlow | str | End | Again | Go | Back"
"""What a key leads to, and what handlers return.

A menu is asked. A text is said, and then the same menu is asked again. A call flow is carried out: one that neither
hangs up, nor calls somebody, nor asks something goes back to the same menu, as a text does.
"""

Handler: TypeAlias = "Callable[[Caller], Step | Awaitable[Step]]"
"""A function of the caller, sync (it runs in a thread) or async, that says what follows."""
