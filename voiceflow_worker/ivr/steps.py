"""The steps that name no menu: hang up, ask again, go back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from voiceflow_worker.ivr.speech import Text


@dataclass(frozen=True, slots=True)
class End:
    """The end of the call: a hang-up, after a last text if there is one."""

    text: Text | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Another try after invalid input: `text` is spoken, then the question. The fallback comes after the last try."""

    text: Text | None = None


class Back(Enum):
    """The step back to the menu that the caller came from."""

    BACK = "back"


END = End()
BACK = Back.BACK
"""The step back to the menu that led here. At the first menu, it asks that menu's question again."""
