"""The order of a key to call the person back, and what is said where that is not possible."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import checked_duration


@checked
@dataclass(frozen=True, slots=True)
class CallBack:
    """What `call_me_back(after)` orders for a key: the person is called back, once, `after` this time.

    It is the same call, redialled, to the number at which the person is, in its calling window and while it is valid.
    Where that is not possible, the person hears `call_back_not_possible` of the menu in place of what follows the key.
    """

    after: timedelta

    def __post_init__(self) -> None:
        checked_duration("after", self.after, positive=True)


CALL_ME_BACK: Final = "call me back"
"""The answer of a person who asks for it, by keys without another name."""
NOT_CALLED_BACK: Final = {
    "de": "Leider können wir Sie nicht mehr zurückrufen.",
    "en": "Sorry, we cannot call you back any more.",
    "es": "Lo sentimos, ya no podemos volver a llamarle.",
    "fr": "Désolé, nous ne pouvons plus vous rappeler.",
    "id": "Maaf, kami tidak dapat menelepon Anda kembali.",
    "it": "Purtroppo non possiamo più richiamarla.",
    "ms": "Maaf, kami tidak dapat menghubungi anda semula.",
    "nl": "Helaas kunnen we u niet meer terugbellen.",
    "pt": "Lamentamos, já não podemos voltar a ligar-lhe.",
    "zh": "抱歉，我们无法再给您回电。",  # noqa: RUF001 - Chinese
}
"""What a person hears who cannot be called back, by the language of the voice, if the menu has no text for it."""
