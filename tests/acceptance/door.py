"""A door before the sandbox that notes when each POST arrives: by the kernel, not by when a busy process got to look.

On a shared machine the sandbox may be kept from its processor for 50 ms and find three POSTs at once, which came 20 ms
apart. The kernel notes the time at which bytes came in (SO_TIMESTAMPNS), independently of their reader. Run as a
process of its own: `python -m tests.acceptance.door FILE PORT` prints its own port, hands everything on to that port,
and writes into FILE one line for each POST: the time of its first bytes, in epoch seconds.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.processes import running

SO_TIMESTAMPNS = 35
"""<asm-generic/socket.h>; Python has no name for it."""


class Door:
    """The door, seen from the test."""

    def __init__(self, url: str, notes: Path) -> None:
        self.url = url
        self._notes = notes

    def arrivals(self) -> list[float]:
        """When POSTs arrived, in order."""
        return sorted(float(line) for line in self._notes.read_text(encoding="ascii").splitlines(keepends=True))


@contextmanager
def door_before(url: str, folder: Path) -> Generator[Door]:
    """Put a door before the sandbox at this URL."""
    notes = folder / "arrivals.txt"
    with running(str(notes), str(urlsplit(url).port), module="tests.acceptance.door") as process:
        port = process.wait_for(r"^(\d+)$")[1]
        yield Door(f"http://127.0.0.1:{port}", notes)


def busiest_second(times: Sequence[float]) -> int:
    """How many the fullest sliding second holds; `times` are in order, and good to ten microseconds.

    Epoch seconds as floats are good to 0.24 µs: fifty intervals, each added to the last, are short by a microsecond.
    """
    first = most = 0
    for place, at in enumerate(times):
        while times[first] <= at - 1 + 1e-5:
            first += 1
        most = max(most, place - first + 1)
    return most


def main(notes: Path, port: int) -> None:
    """Stand before `port` until killed."""
    writing = threading.Lock()
    with notes.open("w", encoding="ascii") as file, socket.create_server(("127.0.0.1", 0)) as listening:
        # Sockets that are accepted inherit it: what came before the accept has its time too.
        listening.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        print(listening.getsockname()[1], flush=True)  # noqa: T201 - its parent reads this

        def note(at: float) -> None:
            with writing:
                file.write(f"{at!r}\n")
                file.flush()

        def serve(outside: socket.socket) -> None:
            with outside, socket.create_connection(("127.0.0.1", port)) as inside, suppress(OSError):
                back = threading.Thread(target=_hand_back, args=(inside, outside), daemon=True)
                back.start()
                while True:
                    data, notes_of_kernel, _, _ = outside.recvmsg(65536, 256)
                    if not data:
                        break
                    if data.startswith(b"POST "):
                        note(_time_of(notes_of_kernel))
                    inside.sendall(data)
                inside.shutdown(socket.SHUT_WR)
                back.join()

        while True:
            outside, _ = listening.accept()
            threading.Thread(target=serve, args=(outside,), daemon=True).start()


def _hand_back(inside: socket.socket, outside: socket.socket) -> None:
    with suppress(OSError):
        while data := inside.recv(65536):
            outside.sendall(data)
        outside.shutdown(socket.SHUT_WR)


def _time_of(notes: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in notes:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            return float(int.from_bytes(data[:8], sys.byteorder)) + int.from_bytes(data[8:16], sys.byteorder) / 1e9
    return time.time()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
