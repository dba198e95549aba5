"""The account of the sandbox: its key, and the numbers, voices and webhooks of its sub-accounts."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence

from voiceflow_worker.model.text.wording import SUB_ACCOUNT_ID
from voiceflow_worker.sandbox.events.delivery import WebhookTarget
from voiceflow_worker.sandbox.orders import same_number

HOOK_TYPES = ("VSS", "VCA", "VCS", "VRU", "VNU")
NO_KEY = "Authentication header not found or token invalid"

# The voices that the 8x8 guides use, and some other neural voices.
SPEECH_PROFILES: Sequence[Mapping[str, str]] = tuple(
    {"speechProfileCode": code, "localeCode": locale, "localeDescription": description, "gender": gender}
    for code, locale, description, gender in (
        ("en-US-BenjaminRUS", "en-US", "English (United States)", "Male"),
        ("en-US-JennyNeural", "en-US", "English (United States)", "Female"),
        ("en-IE-EmilyNeural", "en-IE", "English (Ireland)", "Female"),
        ("en-GB-SoniaNeural", "en-GB", "English (United Kingdom)", "Female"),
        ("en-SG-LunaNeural", "en-SG", "English (Singapore)", "Female"),
        ("id-ID-GadisNeural", "id-ID", "Indonesian (Indonesia)", "Female"),
        ("fil-PH-BlessicaNeural", "fil-PH", "Filipino (Philippines)", "Female"),
        ("ms-MY-YasminNeural", "ms-MY", "Malay (Malaysia)", "Female"),
        ("th-TH-PremwadeeNeural", "th-TH", "Thai (Thailand)", "Female"),
        ("zh-CN-XiaoxiaoNeural", "zh-CN", "Chinese (Mandarin, China)", "Female"),
        ("de-DE-KatjaNeural", "de-DE", "German (Germany)", "Female"),
    )
)
# The sub-account of incoming calls until a sub-account is used or registered.
_ANY = "sandbox"
_SAMPLE_NUMBERS = ("6531234567",)


class SandboxAccount:
    """The key, sub-accounts, numbers, voices and registered webhooks of an account.

    If an argument is None, its values are not checked: any non-empty key, any well-formed sub-account, any source or
    any voice is accepted.
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        sub_accounts: Collection[str] | None,
        numbers: Sequence[str] | None,
        voices: Collection[str] | None,
        hook: WebhookTarget | None,
    ) -> None:
        self._api_key = None if api_key is None else api_key.encode()
        self._sub_accounts = None if sub_accounts is None else frozenset(sub_accounts)
        self._numbers = None if numbers is None else tuple(map(same_number, numbers))
        self._voices = None if voices is None else frozenset(voices)
        self.hook_for_all = hook
        """The default webhook, which gets the events of all types until others are registered."""
        self._hooks: dict[str, dict[str, WebhookTarget]] = {}

    # -- access --------------------------------------------------------------------------------------------------------

    def refusal(self, authorization: bytes | None, sub_account: str) -> tuple[int, str] | None:
        """Return the HTTP status and the message that refuse a request, or None for a request with access."""
        scheme, _, token = (authorization or b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            return 401, NO_KEY
        if self._api_key is not None and not hmac.compare_digest(token, self._api_key):
            return 401, NO_KEY
        known = SUB_ACCOUNT_ID.fullmatch(sub_account) is not None
        if not known or (self._sub_accounts is not None and sub_account not in self._sub_accounts):
            return 404, f"SubAccount not found by Id : {sub_account}"
        return None

    # -- numbers and voices --------------------------------------------------------------------------------------------

    @property
    def numbers(self) -> tuple[str, ...]:
        """The account's numbers, or a sample number if any source is accepted."""
        return tuple(map(same_number, _SAMPLE_NUMBERS)) if self._numbers is None else self._numbers

    def owns(self, number: str) -> bool:
        """Return whether calls may have this source."""
        return self._numbers is None or same_number(number) in self._numbers

    @property
    def profiles(self) -> Sequence[Mapping[str, str]]:
        """The account's speech profiles."""
        if self._voices is None:
            return SPEECH_PROFILES
        known = {profile["speechProfileCode"]: profile for profile in SPEECH_PROFILES}
        return [known.get(voice, {"speechProfileCode": voice}) for voice in sorted(self._voices)]

    def speaks(self, voice: str) -> bool:
        """Return whether the account has this voice."""
        return self._voices is None or voice in self._voices

    # -- webhooks ----------------------------------------------------------------------------------------------------

    def hooks(self, sub_account: str) -> dict[str, WebhookTarget]:
        """Return the webhooks of this sub-account by type of event. At first, the default webhook gets all types."""
        if sub_account not in self._hooks:
            given = self.hook_for_all
            self._hooks[sub_account] = {} if given is None else dict.fromkeys(HOOK_TYPES, given)
        return self._hooks[sub_account]

    def hook(self, sub_account: str, hook_type: str) -> WebhookTarget | None:
        """Return the webhook for events of a type, or None."""
        found = self.hooks(sub_account).get(hook_type)
        return found if found is not None and found.enabled else None

    def first_with(self, hook_type: str) -> str | None:
        """Return the first sub-account that has a webhook for events of a type, or None."""
        known = sorted(self._sub_accounts or ()) or [*self._hooks, _ANY]
        return next((name for name in known if self.hook(name, hook_type) is not None), None)
