"""The Redis store: its three ports, its clock and its connection."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from voiceflow_worker.backends.redis.changes import QueueChanges
from voiceflow_worker.backends.redis.connection.clock import ServerClock
from voiceflow_worker.backends.redis.connection.durability import Durability
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.redis.connection.scripts import load as load_scripts
from voiceflow_worker.backends.redis.connection.survey import Packing, Survey, packing_of
from voiceflow_worker.backends.redis.connection.url import Promise, parse_url
from voiceflow_worker.backends.redis.control import RedisControl
from voiceflow_worker.backends.redis.jobs import RedisJobs
from voiceflow_worker.backends.redis.one_domain import OneDomain
from voiceflow_worker.backends.redis.records import RedisRecords
from voiceflow_worker.backends.redis.registers import Registers
from voiceflow_worker.core.ports import Clock


@dataclass(frozen=True, slots=True)
class RedisStore:
    """An open store in Redis. Many processes may open the same store; this object belongs to one event loop."""

    url: str
    jobs: RedisJobs
    control: RedisControl
    records: RedisRecords
    clock: Clock
    link: Link
    keys: Keys
    registers: Registers

    @property
    def domain(self) -> OneDomain:
        """The nine methods over this store."""
        return OneDomain(self)

    @property
    def durability(self) -> Durability:
        """The durability of the server, checked when it was last connected."""
        return self.link.durability

    async def packing(self) -> Packing | None:
        """How the server packs jobs in its memory; None if it does not show its settings."""
        found: Packing | None = await self.link.ask(packing_of)
        return found


@asynccontextmanager
async def open_redis(
    url: str, *, clock: Clock | None = None, durability: str | None = None, advises: bool = True
) -> AsyncGenerator[RedisStore]:
    """Open the store at a `redis:`, `rediss:`, `valkey:`, `valkeys:`, `redis+cluster:` or `redis+sentinel:` URL.

    `clock` replaces the server's clock. `durability="best-effort"` (or `?durability=best-effort`) accepts a server that
    may lose data. With `advises=False`, no warning about the server's configuration is logged at the opening.

    Raises SettingsError for an invalid URL, RedisForgetsError for a server that has no AOF, evicts keys, or does not
    show its settings, StoreVersionError for a store of another version, and StoreUnavailableError if the server does
    not answer.
    """
    parsed = parse_url(url)
    load_scripts()
    if durability is not None:
        parsed = replace(parsed, promise=Promise(durability))
    keys = Keys(parsed.prefix)
    _quieten_driver()
    link = Link(parsed, Survey(parsed, keys).server, advises=advises)
    async with link.opened():
        if clock is None:
            clock = server_clock = ServerClock(link, keys.schema)
            await server_clock.synchronise()
            link.start(server_clock.keep)
        registers = Registers(link)
        yield RedisStore(
            url=parsed.shown,
            jobs=RedisJobs(link, keys, registers, QueueChanges(link, keys, clock)),
            control=RedisControl(link, keys),
            records=RedisRecords(link, keys, registers),
            clock=clock,
            link=link,
            keys=keys,
            registers=registers,
        )


def _quieten_driver() -> None:
    """Stop coredis from logging a traceback for every refused connection. The caller gets the error.

    A log level that the application has set is left alone.
    """
    log = logging.getLogger("coredis")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)
