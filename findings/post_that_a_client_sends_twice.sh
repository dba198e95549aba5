#!/bin/sh
# httplib2 0.32.1: a POST whose answer is lost is sent again, and the program does not learn it.
# Guess: a client raises, as Python's http.client does, because the server may have done what the POST asks for. At a
# provider of calls, a second POST is a second call.
# What happens: the server takes the second POST on a kept connection, and closes. httplib2 sends it once more on a
# new connection, and returns that answer.
# Seen: bodies that arrived: http.client a, b, and RemoteDisconnected; httplib2 a, b, b, and no error.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check httplib2==0.32.1
cd "$dir"
bin/python - <<'END'
import http.client
import socket
import threading

import httplib2


def arrived(post):
    bodies = []

    def serve(connection):
        with connection, connection.makefile("rb") as lines:
            while lines.readline():
                length = 0
                while (header := lines.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                bodies.append(lines.read(length).decode())
                if len(bodies) == 2:
                    return  # taken, and never answered
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def accept():
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        for body in "ab":
            post(server.getsockname()[1], body)
    except http.client.RemoteDisconnected:
        return bodies, "RemoteDisconnected"
    return bodies, "no error"


plain, kept = {}, httplib2.Http(timeout=30)


def by_http_client(port, body):
    client = plain.setdefault(port, http.client.HTTPConnection("127.0.0.1", port, timeout=30))
    client.request("POST", "/", body=body)
    client.getresponse().read()


def by_httplib2(port, body):
    kept.request(f"http://127.0.0.1:{port}/", "POST", body=body)


seen = [arrived(by_http_client), arrived(by_httplib2)]
expected = [(["a", "b"], "RemoteDisconnected"), (["a", "b", "b"], "no error")]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
