"""Importing and installing the library bring no more than is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = {
    "airflow", "apsw", "httptools", "httpx", "jinja2", "phonenumbers", "pydantic", "dotenv",
    "redis", "rich", "starlette", "structlog", "trio", "uvicorn",
}  # fmt: skip

LOADED = "import sys; import voiceflow_worker; print('\\n'.join(sys.modules))"
# The clock starts after the interpreter has: what users pay for this import, not for Python.
TIMED = "import time; start = time.process_time(); import voiceflow_worker; print(time.process_time() - start)"


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout


def test_importing_the_public_api_loads_no_driver() -> None:
    loaded = {name.partition(".")[0] for name in python(LOADED).split()}
    assert "voiceflow_worker" in loaded
    assert not loaded & HEAVY


def test_importing_the_public_api_is_quick() -> None:
    fastest = min(float(python(TIMED)) for _ in range(3))  # the best of three: other processes only make it slower
    assert fastest < 0.25


def test_every_public_name_is_there_and_loading_it_starts_nothing() -> None:
    """No threads, no files opened for writing, no environment variables set."""
    code = (
        "import os, sys, threading; before = dict(os.environ); written = []\n"
        "sys.dont_write_bytecode = True\n"
        "def watch(event, args):\n"
        "    if event == 'open' and set(str(args[1] or '')) & set('wax+'): written.append(args)\n"
        "sys.addaudithook(watch)\n"
        "import voiceflow_worker as api\n"
        "missing = [name for name in api.__all__ if getattr(api, name, None) is None]\n"
        "print(missing, sorted(api.__all__) == dir(api), 30 < len(api.__all__) <= 40, hasattr(api, 'CallQ'))\n"
        "print(threading.active_count(), written, dict(os.environ) == before)"
    )
    assert python(code).splitlines() == ["[] True True False", "1 [] True"]


def everything_installed_by(distribution: str) -> set[str]:
    """The names of all distributions that a plain `pip install` of this one brings here, itself included."""
    found: set[str] = set()
    open_names = [distribution]
    while open_names:
        name = canonicalize_name(open_names.pop())
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            extras = {"", *requirement.extras}
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                open_names.append(requirement.name)
    return found


def test_installing_the_library_brings_no_airflow_and_no_redis() -> None:
    names = everything_installed_by("voiceflow-worker")
    assert {"anyio", "httpx", "httpcore", "pydantic"} <= names, "the metadata was not read"
    assert not [name for name in names if "airflow" in name or "redis" in name or "valkey" in name]
