"""Opening a store in Redis."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from voiceflow_worker.backends.redis.changes import QueueChanges
from voiceflow_worker.backends.redis.connection.clock import ServerClock
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Greeting, Link
from voiceflow_worker.backends.redis.connection.scripts import load as load_scripts
from voiceflow_worker.backends.redis.connection.survey import Survey
from voiceflow_worker.backends.redis.connection.url import Promise, parse_url
from voiceflow_worker.backends.redis.control import RedisControl
from voiceflow_worker.backends.redis.jobs import RedisJobs
from voiceflow_worker.backends.redis.records import RedisRecords
from voiceflow_worker.backends.redis.registers import Registers
from voiceflow_worker.backends.redis.store import RedisStore
from voiceflow_worker.core.ports import Clock


@asynccontextmanager
async def open_redis(
    url: str,
    *,
    clock: Clock | None = None,
    durability: str | None = None,
    greetings: Sequence[Greeting] = (),
) -> AsyncGenerator[RedisStore]:
    """Open the store that a `redis:`, `rediss:`, `redis+cluster:` or `redis+sentinel:` URL names.

    `clock` replaces the server's. `durability="best-effort"` (or `?durability=best-effort`) accepts a server that
    may lose data. `greetings` are further steps of every new session, after those of the store.

    Raises `SettingsError` for an invalid URL, `RedisForgetsError` for a server that may lose data or does not show its
    settings, `StoreVersionError` for a store of a newer version, and `StoreUnavailableError` without an answer.
    """
    parsed = parse_url(url)
    load_scripts()
    if durability is not None:
        parsed = replace(parsed, promise=Promise(durability))
    keys = Keys(parsed.prefix)
    survey = Survey(parsed, keys)
    _quieten_driver()
    link = Link(parsed, [survey.durability, survey.schema, *greetings])
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
        )


def _quieten_driver() -> None:
    """Keep coredis from logging a traceback for every refused connection: the caller gets the error and reports it.

    A level that the application has set is kept.
    """
    log = logging.getLogger("coredis")
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)
