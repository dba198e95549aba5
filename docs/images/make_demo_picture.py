"""Make demo.svg, the picture in the README, from what `voiceflow demo` prints on a terminal. Run it from anywhere."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).with_name("demo.svg")
COLUMNS = 112
SHOWN_ROWS = 9
"""Of a table; the middle of a longer one is left out, and the picture says so."""


def printed() -> tuple[list[str], list[str]]:
    """Return the lines that the demo writes to stderr and, on a terminal of `COLUMNS`, to stdout."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 200, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "voiceflow_worker", "demo"], stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as demo:
        os.close(theirs)
        out = b""
        while chunk := _read(ours):
            out += chunk
        log = demo.stderr.read() if demo.stderr is not None else b""
    if demo.returncode != 0:
        sys.exit(f"the demo ended with exit code {demo.returncode}:\n{log.decode()}")
    return log.decode().splitlines(), out.decode().replace("\r\n", "\n").split("\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end was closed: how a terminal ends on Linux
        return b""


def shortened(lines: list[str]) -> list[str]:
    """Return the lines with the middle of long tables left out. A table ends at an empty line."""
    shown: list[str] = []
    rows = 0
    left_out = 0
    in_table = False
    for line in lines:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if "───" in plain:
            in_table, rows, left_out = True, 0, 0
        elif in_table and not plain.strip():
            in_table = False
            if left_out:
                shown.append(f"  … {left_out} more")
        elif in_table:
            is_new_row = bool(re.match(r" {1,3}[+\d]", plain))
            rows += is_new_row
            if rows > SHOWN_ROWS:
                left_out += is_new_row
                continue
        shown.append(line.rstrip())
    return shown


def main() -> None:
    """Run the demo and write the picture."""
    log, out = printed()
    log = [line for line in log if not line.startswith("calling:")]
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115
    console.print(Text("$ ./dev demo", style="bold green"))
    for line in shortened([*log, "", *out]):
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="voiceflow demo", theme=MONOKAI, unique_id="demo")
    # The reader's own monospace font will do: a picture fetches nothing.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
    sys.stderr.write(f"wrote {PICTURE}\n")


if __name__ == "__main__":
    main()
