"""Which HTTP clients send a POST again by themselves, when its answer is lost after the server has read all of it.

    ./dev bench clients_again [--json]

A server answers a first request, reads the POST that follows whole, and closes the connection without an answer, as a
proxy does whose backend has died. It counts how often the POST comes, for ten seconds, or until the client ends. Each
client runs as its manual shows it, without an option about retries, once on the connection of the first request (kept)
and once on a new one. Those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

WITHIN = 10.0
"""Seconds that a client may go on."""

JAVA = """
import java.io.*; import java.net.*; import java.nio.charset.StandardCharsets;
class Post {
  public static void main(String[] urls) throws Exception {
    for (String url : urls) {
      HttpURLConnection c = (HttpURLConnection) new URL(url).openConnection();
      if (url.endsWith("/post")) {
        c.setRequestMethod("POST"); c.setDoOutput(true);
        try (OutputStream out = c.getOutputStream()) { out.write("{}".getBytes(StandardCharsets.UTF_8)); }
      }
      try (InputStream in = c.getInputStream()) { in.readAllBytes(); }
    }
  }
}
"""
NODE = """
const agent = new (require("node:http").Agent)({ keepAlive: true });
(async () => {
  for (const url of process.argv.slice(1)) {
    const answer = await fetch(url, url.endsWith("/post") ? { method: "POST", body: "{}" } : {});
    await answer.text();
  }
})();
"""
PYTHON = """
import sys, {module}
client = {module}.{client}()
for url in sys.argv[1:]:
    client.post(url, data={{"a": "b"}}) if url.endswith("/post") else client.get(url)
"""


def clients(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """The name of each client that is here, its command before the addresses, and the one that prints its version."""
    if curl := shutil.which("curl"):
        yield "curl", [curl, "--silent"], [curl, "--version"]
    if wget := shutil.which("wget"):
        yield "wget", [wget, "--quiet", "--output-document=-"], [wget, "--version"]
    if java := shutil.which("java"):
        (folder / "Post.java").write_text(JAVA, encoding="utf-8")
        yield "Java HttpURLConnection", [java, str(folder / "Post.java")], [java, "--version"]
    if node := shutil.which("node"):
        yield "Node fetch", [node, "-e", NODE], [node, "--version"]
    for module, client in (("httpx", "Client"), ("requests", "Session")):
        program = [sys.executable, "-c", PYTHON.format(module=module, client=client)]
        version = [sys.executable, "-c", f"import {module}; print({module}.__version__)"]
        with suppress(subprocess.CalledProcessError):
            subprocess.run(version, check=True, capture_output=True)
            yield module, program, version


def words(name: str, first: str, post: str, *, kept: bool) -> list[str]:
    """What follows a client's command: the first address and the POST, or the POST alone."""
    if name == "curl":
        return [*([first, "--next", "--silent"] if kept else []), "--data", "{}", post]
    if name == "wget":  # posts to each address
        return ["--post-data={}", *([first] if kept else []), post]
    return [*([first] if kept else []), post]


@contextmanager
def counting() -> Iterator[tuple[list[int], int]]:
    """The client's port of each POST that came, and the server's port."""
    came: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/post":
                came.append(self.client_address[1])
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_POST = do_GET  # noqa: N815 - the name that the server calls

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield came, server.server_port
    finally:
        server.shutdown()
        server.server_close()


def posts(name: str, command: list[str], *, kept: bool) -> int:
    """How often the POST came."""
    with counting() as (came, port):
        url = f"http://127.0.0.1:{port}"
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*command, *words(name, f"{url}/first", f"{url}/post", kept=kept)],
                capture_output=True, timeout=WITHIN, check=False, env={"PATH": "/usr/bin:/bin"},
            )  # fmt: skip
        return len(came)


def main() -> None:
    """Run each client, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command, version in clients(Path(folder)):
            line = subprocess.run(version, capture_output=True, text=True, check=True).stdout.splitlines()[0]
            kept, new = (posts(name, command, kept=each) for each in (True, False))
            found[name] = {"version": line, "kept": kept, "new": new}
    if given.json:
        print(json.dumps(found, indent=1))  # noqa: T201
        return
    print("| client | POSTs on a kept connection | on a new one | version |\n|---|---|---|---|")  # noqa: T201
    for name, each in found.items():
        print(f"| {name} | {each['kept']} | {each['new']} | {each['version']} |")  # noqa: T201


if __name__ == "__main__":
    main()
