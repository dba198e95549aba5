"""A server that speaks the Redis protocol and answers what a test orders, also what no real one at hand does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from voiceflow_worker.backends.redis.durability import SCHEMA
from voiceflow_worker.backends.redis.scripts import script

Answer = str | int | None | Sequence["Answer"] | Mapping[str, "Answer"] | Exception


@dataclass
class ScriptedRedis:
    """Says it is of `version` and has these `settings`; None refuses CONFIG.

    `scripts` answers EVALSHA by the script's name, `texts` EVAL, which is else answered with `schema`, an id and a
    history. `waitaof` is what WAITAOF answers, `wait` what WAIT does. `asked` holds every command.
    """

    version: str = "7.4.3"
    settings: Mapping[str, str] | None = field(
        default_factory=lambda: {
            "appendonly": "yes", "appendfsync": "everysec", "no-appendfsync-on-rewrite": "no",
            "maxmemory-policy": "noeviction",
        }
    )  # fmt: skip
    waitaof: Answer = field(default_factory=lambda: [1, 0])
    wait: Answer = 0
    schema: str = str(SCHEMA)
    scripts: dict[str, Answer] = field(default_factory=dict)
    texts: dict[str, Answer] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    port: int = 0
    _clients: set[SocketStream] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def commands(self) -> list[str]:
        """The names of the commands that were asked, without those of the handshake."""
        return [words[0].upper() for words in self.asked if words[0].upper() not in {"HELLO", "CLIENT"}]

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[ScriptedRedis]:
        async with anyio.create_task_group() as group:
            await group.start(self._serve)
            yield self
            group.cancel_scope.cancel()

    async def drop_connections(self) -> None:
        """Close all connections, as a restart of the server does."""
        for client in tuple(self._clients):
            await client.aclose()
        await anyio.wait_all_tasks_blocked()

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(SocketAttribute.local_port)
        task_status.started()
        async with listener:
            await listener.serve(self._handle)

    async def _handle(self, client: SocketStream) -> None:
        received = BufferedByteReceiveStream(client)
        self._clients.add(client)
        try:
            async with client:
                while True:
                    words = [await self._word(received) for _ in range(await self._number(received))]
                    self.asked.append(words)
                    await client.send(_encoded(self._answer(words)))
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            self._clients.discard(client)

    async def _number(self, received: BufferedByteReceiveStream) -> int:
        return int((await received.receive_until(b"\r\n", 65536))[1:])

    async def _word(self, received: BufferedByteReceiveStream) -> str:
        size = await self._number(received)
        return (await received.receive_exactly(size + 2))[:-2].decode()

    def _answer(self, words: list[str]) -> Answer:
        match [words[0].upper(), *words[1:]]:
            case ["HELLO", *_]:
                return {"server": "redis", "version": self.version, "proto": 3, "id": 1, "mode": "standalone"}
            case ["INFO", *_]:
                facts = {"redis_version": self.version, "redis_mode": "standalone", "role": "master", "run_id": "r"}
                return "# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in facts.items())
            case ["CONFIG", "GET" | "get", name]:
                if self.settings is None:
                    return RuntimeError("NOPERM this user has no permissions to run the 'config|get' command")
                return {name: self.settings[name]} if name in self.settings else {}
            case ["EVAL", text, *_]:
                texts = {script(name).text: answer for name, answer in self.texts.items()}
                return texts.get(text, [self.schema, "an id", "0", "0"])
            case ["EVALSHA", sha, *_]:
                known: dict[str, Answer] = {script("clock").sha: '["1795000000", "0"]'}
                known |= {script(name).sha: answer for name, answer in self.scripts.items()}
                return known.get(sha, RuntimeError("NOSCRIPT No matching script."))
            case ["WAITAOF", *_]:
                return self.waitaof
            case ["WAIT", *_]:
                return self.wait
            case ["SADD", *_]:
                return 1
            case ["HGET", *_]:
                return None
            case _:
                return "OK"


def _encoded(answer: Answer) -> bytes:
    match answer:
        case None:
            return b"_\r\n"
        case int():
            return b":%d\r\n" % answer
        case str():
            data = answer.encode()
            return b"$%d\r\n%s\r\n" % (len(data), data)
        case Mapping():
            pairs = b"".join(_encoded(key) + _encoded(value) for key, value in answer.items())
            return b"%%%d\r\n" % len(answer) + pairs
        case Sequence():
            return b"*%d\r\n" % len(answer) + b"".join(map(_encoded, answer))
        case Exception():
            return f"-{answer}\r\n".encode()
