"""The departure times that a Redis store gave, read off the server (MONITOR): they are exact on any machine."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

from tests.support.redis_server import RedisServer
from voiceflow_worker.backends.redis.connection.scripts import script

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BYTES = script("take").text.encode().decode("latin-1")
_TAKE = {script("take").sha, json.dumps(_BYTES)[1:-1].replace("\\u00", "\\x")}
"""The script that gives departure times, by its digest and as MONITOR writes its text: a byte beyond ASCII is \\xe2."""


class Given:
    """Every departure time that was given while this was looking on, at one rate and without bursts."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._asked: tuple[int, float] | None = None
        self._tat = 0.0
        self.times: list[float] = []

    def read(self, line: str) -> None:
        """Read one line of MONITOR: a `take`, and then what the script wrote of the queue's pace."""
        words = _WORD.findall(line)
        if "[0 lua]" not in line:
            # A script is sent as a text if the server does not know its digest. A take that finds no room, or that the
            # server does not know, writes nothing: what the next command writes is no answer to it.
            self._asked = (int(words[-3]), float(words[-2])) if _TAKE & {*words[1:2]} else None
        elif words[:1] == ["HSET"] and words[1].endswith(":pace"):
            told = dict(zip(words[2::2], map(float, words[3::2]), strict=True))
            # One that finds no room writes nothing; a worker that starts writes the pace as it stands.
            if self._asked is not None and told["tat"] != self._tat:
                self._add(*self._asked, tat=told["tat"], last=told["last"])
            self._asked, self._tat = None, told["tat"]

    def _add(self, wanted: int, now: float, *, tat: float, last: float) -> None:
        first = max(now, self._tat)
        count = round((last - first) / self._interval) + 1
        assert 1 <= count <= wanted, (wanted, now, first, last, tat, count)
        assert abs(tat - last - self._interval) < 1e-6, (tat, last)
        self.times += [first + place * self._interval for place in range(count)]


@contextmanager
def watched(server: RedisServer, *, rate: float) -> Generator[Given]:
    """Look on at what this server gives."""
    given = Given(rate)
    ready = threading.Event()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:

        def read() -> None:
            with suppress(OSError), connection.makefile("r", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    ready.set()
                    given.read(line)

        reader = threading.Thread(target=read, daemon=True)
        connection.sendall(b"MONITOR\r\n")
        reader.start()
        assert ready.wait(30)
        yield given
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        reader.join(30)
