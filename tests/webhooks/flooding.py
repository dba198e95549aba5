"""A flood of a receiver, as a process of its own, over raw sockets: strangers who hold connections, then summaries.

It reads one line of orders (JSON) on stdin and answers with one on stdout: how the tries to hand in a summary ended,
and how many summaries are left. Every summary that was not answered with 200 is sent again, as 8x8 may.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass

from tests.bench.webhook_load import BODY

AT_A_TIME = 50
"""Connections that are begun before those that stand are looked at: nobody waits for others before they send."""
AGAIN = 500
"""Summaries that are sent again at once."""
GIVES_UP = 60.0
"""Seconds without an answer after which a try counts as not answered."""


def half_open(place: int) -> bytes:
    """What a stranger sends: nothing, some of a head, a head without its body."""
    return (
        b"",
        b"POST /webhooks/8x8 HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /webhooks/8x8 HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
    )[place % 3]


@dataclass
class Try:
    """One connection with one summary."""

    post: int
    request: bytes
    answer: bytes = b""


def hold(port: int, count: int) -> list[socket.socket]:
    """Connections that never send a whole request."""
    held: list[socket.socket] = []
    for _ in range(count):
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.connect_ex(("127.0.0.1", port))
        held.append(stranger)
    for place, stranger in enumerate(held):
        try:
            stranger.send(half_open(place))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET):
                raise
    return held


def send(port: int, requests: list[Try]) -> Counter[str]:  # noqa: C901 (one loop over sockets, in one place)
    """Send all at once, each on a connection of its own; gives how they ended. Their answers are in them."""
    ended: Counter[str] = Counter()
    poll = select.epoll()
    opened: dict[int, tuple[socket.socket, Try]] = {}

    def over(number: int, how: str) -> None:
        connection, _ = opened.pop(number)
        poll.unregister(number)
        connection.close()
        ended[how] += 1

    waiting = deque(requests)
    last = time.monotonic()
    while opened or waiting:
        for each in [waiting.popleft() for _ in range(min(AT_A_TIME, len(waiting)))]:
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
            opened[connection.fileno()] = (connection, each)
            poll.register(connection.fileno(), select.EPOLLOUT)
        events = poll.poll(0 if waiting else 1.0)
        if events:
            last = time.monotonic()
        elif time.monotonic() - last > GIVES_UP:
            for number in list(opened):
                over(number, "no answer")
            break
        for number, event in events:
            if number not in opened:
                continue
            connection, each = opened[number]
            try:
                if event & select.EPOLLOUT:
                    connection.send(each.request)  # less than any socket's buffer
                    poll.modify(number, select.EPOLLIN)
                    continue
                read = connection.recv(4096)
            except OSError as error:
                over(number, errno.errorcode.get(error.errno or 0, "an error"))
                continue
            each.answer += read
            if not read:
                over(number, each.answer[9:12].decode() or "closed without an answer")
            elif b"\r\n\r\n" in each.answer:
                over(number, each.answer[9:12].decode())
    poll.close()
    return ended


def main() -> None:
    """Carry out the orders."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    orders = json.loads(sys.stdin.readline())
    port, secret = orders["port"], orders["secret"]
    held = hold(port, orders["half_open"])
    time.sleep(1.0)  # for so long strangers hold connections: time is what is tested
    rounds = 0
    left = [Try(place, _request(secret, *post)) for place, post in enumerate(orders["posts"])]
    tries: Counter[str] = Counter()
    while left and rounds < orders["rounds"]:
        at_once = AGAIN if rounds else len(left)
        for start in range(0, len(left), at_once):
            tries += send(port, left[start : start + at_once])
        left = [Try(each.post, each.request) for each in left if each.answer[9:12] != b"200"]
        rounds += 1
        held += hold(port, orders["half_open"] - sum(_stands(each) for each in held))
        time.sleep(0.5)  # a sender waits before it comes again
    for each in held:
        each.close()
    sys.stdout.write(json.dumps({"tries": tries, "left": len(left)}) + "\n")


def _stands(stranger: socket.socket) -> bool:
    """Whether the receiver still holds this connection."""
    try:
        return stranger.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _request(secret: str, request_id: str, session_id: str) -> bytes:
    body = (BODY % {"session": session_id, "request": request_id}).encode()
    head = (
        "POST /webhooks/8x8 HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"
        f"Authorization: {secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    main()
