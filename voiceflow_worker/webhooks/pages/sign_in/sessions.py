"""Sessions of people who have signed in to the pages."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import scrypt
from math import inf
from secrets import token_urlsafe
from typing import TypedDict

from itsdangerous import BadData, URLSafeSerializer

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.errors import SettingsError

LASTS = timedelta(hours=12)
READ_EVERY = timedelta(seconds=1)
"""The longest time until other receivers know of a sign-out."""
ENDED = "page-session-ended"


class PageRole(StrEnum):
    """What somebody may do on the pages: a reader only looks."""

    READER = "reader"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSession:
    """One sign-in. `name` is what the person typed; `token` must come with every form of this session."""

    id: str
    name: str
    role: PageRole
    token: str
    until: datetime

    @property
    def may_act(self) -> bool:
        """Whether this person may change something."""
        return self.role is PageRole.OPERATOR

    def sent(self, token: str) -> bool:
        """Whether a form with this token comes from a page of this session."""
        return hmac.compare_digest(token.encode(), self.token.encode())


class _Signed(TypedDict):
    id: str
    name: str
    token: str
    until: int


class PageSessions:
    """Begins, recognizes and ends sessions; all receivers with the same secrets and store share them.

    A session is kept in its cookie, signed with a key that is derived from the secret of its role: another secret ends
    all its sessions. Raises SettingsError for an empty secret, and for equal ones.
    """

    def __init__(
        self,
        store: Store,
        *,
        secret: str,
        operator_secret: str | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        if not secret.strip() or (operator_secret is not None and not operator_secret.strip()):
            raise SettingsError("a secret of the pages is empty; give the text that people shall type to sign in")
        if secret == operator_secret:
            raise SettingsError("readers and operators of the pages have the same secret; give operators another one")
        self._secrets = {PageRole.READER: secret}
        if operator_secret is not None:
            self._secrets[PageRole.OPERATOR] = operator_secret
        self._signers = {
            role: URLSafeSerializer(_key(secret, role), salt=f"voiceflow pages {role.value}")
            for role, secret in self._secrets.items()
        }
        self._ended = text_records(store, ENDED)
        self._clock = store.clock
        self._monotonic = store.clock.monotonic if monotonic is None else monotonic
        self._ended_ids: frozenset[str] = frozenset()
        self._read_at = -inf

    def role_of(self, secret: str) -> PageRole | None:
        """The role of whoever types this secret; None for a wrong one."""
        matches = [
            role for role, right in self._secrets.items() if hmac.compare_digest(secret.encode(), right.encode())
        ]
        return matches[0] if matches else None

    def begin(self, name: str, role: PageRole) -> PageSession:
        """A new session, with an id and a token that nobody has seen before."""
        until = (self._clock.now() + LASTS).replace(microsecond=0)
        return PageSession(id=token_urlsafe(16), name=name, role=role, token=token_urlsafe(32), until=until)

    def cookie(self, session: PageSession) -> str:
        """The session as the value of a cookie."""
        signed = _Signed(id=session.id, name=session.name, token=session.token, until=int(session.until.timestamp()))
        return str(self._signers[session.role].dumps(signed))

    async def find(self, cookie: str) -> PageSession | None:
        """The session of a cookie; None if it was not made here, or is over. Raises StoreError."""
        session = self._read(cookie)
        if session is None or session.until <= self._clock.now() or await self._has_ended(session):
            return None
        return session

    async def end(self, session: PageSession) -> None:
        """End a session, on all receivers: its cookie is worth nothing any more. Raises StoreError."""
        await self._ended.put({session.id: ""}, until=session.until)
        self._read_at = -inf

    async def _has_ended(self, session: PageSession) -> bool:
        """Whether somebody has signed out; read once a second for all sessions together."""
        now = self._monotonic()
        if now - self._read_at >= READ_EVERY.total_seconds():
            self._ended_ids = frozenset([session_id for session_id, _ in await self._ended.all()])
            self._read_at = now
        return session.id in self._ended_ids

    def _read(self, cookie: str) -> PageSession | None:
        for role, signer in self._signers.items():
            try:
                signed: _Signed = signer.loads(cookie)
            except BadData:
                continue
            return PageSession(
                id=signed["id"],
                name=signed["name"],
                role=role,
                token=signed["token"],
                until=datetime.fromtimestamp(signed["until"], UTC),
            )
        return None


@lru_cache(maxsize=4)
def _key(secret: str, role: PageRole) -> bytes:
    # Slow on purpose (40 ms): who has a cookie must not find a short secret by trying.
    return scrypt(secret.encode(), salt=f"voiceflow pages {role.value}".encode(), n=2**14, r=8, p=1)
