"""Rows: the processor time of a row of a CSV that is enqueued into SQLite, and the memory, beside a plain script.

    ./dev bench rows [--calls 20000] [--rounds 3] [--store sqlite] [--baseline CHECKOUT] [--json]

Each round measures `enqueue_file`, the same of the checkout `--baseline`, and a script that reads the rows with `csv`
and their numbers with `phonenumbers`, fills the text in with Jinja and inserts the bodies as JSON into a table, 1,000 a
transaction; each in a process of its own. Reading is everything until the first row is stored: checks, texts,
duplicates. Memory is the peak beyond what a file of one row takes. Figures are medians of the rounds, ratios are of one
round each.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import deque
from itertools import islice
from pathlib import Path

import anyio
import jinja2
import phonenumbers

from bench.throughput import environment, store, summary
from voiceflow_worker import CallQueue, CountryWindows, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.cli.opening import collect_less

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "plain script: csv, phonenumbers, jinja2, json, sqlite3"
TEXT = "Hello {{name}}, we expect you at {{appointment}}."
SOURCE, VOICE = "+6531234567", "en-IE-EmilyNeural"
CHUNK = 1000
UNITS = {"us_a_row": "CPU µs a row", "reading_us": "reading", "storing_us": "storing", "memory_mb": "memory, MB"}


def campaign(folder: Path, rows: int, *, first: int = 0) -> Path:
    """A file with so many rows, with numbers that no finding warns of."""
    path = folder / f"campaign-{first}.csv"
    lines = [f"+659{7 * place:07},Customer {place},10:30\n" for place in range(first, first + rows)]
    path.write_text("destination,name,appointment\n" + "".join(lines), encoding="utf-8")
    return path


def peak() -> float:
    """The most resident memory of this process until now, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def figures(rows: int, *, began: float, read: float, ended: float, before: float) -> dict[str, float]:
    """The figures of a run, of processor times at its beginning, after its reading and at its end."""
    return {
        "us_a_row": 1e6 * (ended - began) / rows,
        "reading_us": 1e6 * (read - began) / rows,
        "storing_us": 1e6 * (ended - read) / rows,
        "memory_mb": peak() - before,
    }


async def product(url: str, rows: int) -> dict[str, float]:
    """Enqueue a file as `voiceflow enqueue` does."""
    window = CountryWindows.parse("any")
    options = CampaignOptions(template=FlowTemplate.speaking(TEXT), source=SOURCE, voice_profile=VOICE, window=window)
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(url) as opened:
            queue = CallQueue(opened)
            await enqueue_file(queue, campaign(Path(folder), 1, first=rows), options, now=opened.clock.now())
            path = campaign(Path(folder), rows)
            collect_less()
            began = time.process_time()
            deque(open_campaign(path, options, now=opened.clock.now()), maxlen=0)
            reading = time.process_time() - began
            before, began = peak(), time.process_time()
            report = await enqueue_file(queue, path, options, now=opened.clock.now())
            read, ended = began + reading, time.process_time()
    if report.enqueued != rows or report.findings:
        raise SystemExit(f"{report.enqueued} of {rows} rows were enqueued: {report.findings[:1]}")
    return figures(rows, began=began, read=read, ended=ended, before=before)


def plain(url: str, rows: int) -> dict[str, float]:
    """What somebody writes who only wants the bodies in a table."""
    used, template = {"reading": 0.0}, jinja2.Environment(autoescape=False).from_string(TEXT)
    phonenumbers.is_valid_number(phonenumbers.parse(SOURCE))  # loads the plans, as the product's first row does

    def body(row: dict[str, str]) -> tuple[str, str]:
        parsed = phonenumbers.parse(row["destination"])
        if not phonenumbers.is_valid_number(parsed):
            raise SystemExit(f"{row['destination']} is no number")
        number = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
        flow = [
            {"action": "makeCall", "params": {"source": SOURCE, "destination": number}},
            {"action": "say", "params": {"text": template.render(row), "voiceProfile": VOICE}},
        ]
        return number, json.dumps({"callflow": flow})

    with tempfile.TemporaryDirectory() as folder:
        path = campaign(Path(folder), rows)
        database = sqlite3.connect(url.removeprefix("sqlite:///"))
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE calls (number TEXT UNIQUE, body TEXT)")
        gc.collect()
        before, began = peak(), time.process_time()
        with path.open(encoding="utf-8", newline="") as file:
            found = csv.DictReader(file)
            while True:
                at = time.process_time()
                part = [body(row) for row in islice(found, CHUNK)]
                used["reading"] += time.process_time() - at
                if not part:
                    break
                with database:
                    database.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?)", part)
        ended = time.process_time()
        (stored,) = database.execute("SELECT count(*) FROM calls").fetchone()
        database.close()
    if stored != rows:
        raise SystemExit(f"{stored} of {rows} rows were stored")
    return figures(rows, began=began, read=began + used["reading"], ended=ended, before=before)


def measured(build: Path, what: str, kind: str, *, rows: int) -> dict[str, float]:
    """The figures of one program, with the product of this build, in a process of its own."""
    with store(kind) as url:
        command = [
            sys.executable,
            str(ROOT / "bench" / "rows.py"),
            "--measure",
            what,
            "--calls",
            str(rows),
            "--url",
            url,
        ]
        env = {**environment(), "PYTHONPATH": str(build)}
        done = subprocess.run(command, cwd=build, env=env, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def one_round(builds: dict[str, Path], kind: str, *, rows: int) -> dict[str, dict[str, float]]:
    """The figures of everything, one after the other, with their ratios to the plain script."""
    found = {PLAIN: measured(ROOT, "plain", "sqlite", rows=rows)}
    found |= {f"{name}, {kind}": measured(build, "product", kind, rows=rows) for name, build in builds.items()}
    base = found[PLAIN]["us_a_row"]
    return {name: {**each, "ratio": each["us_a_row"] / base} for name, each in found.items()}


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as a Markdown table."""
    lines = [f"| program | {' | '.join(UNITS.values())} | ratio to the script (least to most) |"]
    lines.append("|---" * (len(UNITS) + 2) + "|")
    for name, each in found.items():
        values, ratio = [f"{each[unit]['median']:.1f}" for unit in UNITS], each["ratio"]
        spread = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
        lines.append(f"| {name} | {' | '.join(values)} | {spread} |")
    return "\n".join(lines)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="rows of the file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", choices=["sqlite", "redis", "postgres"], default="sqlite")
    parser.add_argument("--baseline", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=["product", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.measure:
        told = (
            plain(wanted.url, wanted.calls)
            if wanted.measure == "plain"
            else anyio.run(product, wanted.url, wanted.calls)
        )
        print(json.dumps(told))  # noqa: T201 - its parent reads this
        return
    builds = {"enqueue_file": ROOT, **({"baseline": wanted.baseline.resolve()} if wanted.baseline else {})}
    rounds = [one_round(builds, wanted.store, rows=wanted.calls) for _ in range(wanted.rounds)]
    found = {
        name: {unit: summary([each[name][unit] for each in rounds], digits=2) for unit in rounds[0][name]}
        for name in rounds[0]
    }
    if wanted.json:
        print(json.dumps({"rows": wanted.calls, "rounds": wanted.rounds, "figures": found}, indent=2))  # noqa: T201
        return
    print(table(found))  # noqa: T201
    print(f"{wanted.rounds} rounds of {wanted.calls} rows")  # noqa: T201


if __name__ == "__main__":
    main()
