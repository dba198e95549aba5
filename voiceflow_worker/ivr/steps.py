"""The steps that name no menu: hang up, ask again, go back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from voiceflow_worker.ivr.speech import Text


@dataclass(frozen=True, slots=True)
class End:
    """Hang up, after a last text if there is one."""

    text: Text | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The input is not valid: say why, and ask once more. It counts as a try; after the last one the fallback comes."""

    text: Text | None = None


class Back(Enum):
    """The menu that the caller came from."""

    BACK = "back"


END = End()
BACK = Back.BACK
"""The menu that led here; in the first menu, that menu itself."""
