"""Fixtures of the tests of the Airflow provider. Without Airflow, none of these tests is collected."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.stage import Stage

HAS_AIRFLOW = find_spec("airflow") is not None
HERE = Path(__file__).parent

if HAS_AIRFLOW:
    # Before the first import of Airflow: it reads its configuration only then.
    for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "VOICEFLOW_"))]:
        if not _name.startswith("VOICEFLOW_TEST_"):
            del os.environ[_name]
    _home = tempfile.mkdtemp(prefix="voiceflow-airflow-")
    atexit.register(shutil.rmtree, _home, ignore_errors=True)
    os.environ.update(
        {
            "AIRFLOW_HOME": _home,
            "AIRFLOW__CORE__DAGS_FOLDER": f"{_home}/dags",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{_home}/logs",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "_AIRFLOW_SKIP_DB_TESTS": "false",
            "XDG_STATE_HOME": f"{_home}/state",
            "VOICEFLOW_WINDOW": "any",  # so that a campaign of a test about other things needs no hours
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect these tests only by their own settings (pytest.ini here), and only with Airflow."""
    by_own_settings = config.inipath is not None and config.inipath.parent == HERE
    if HERE in collection_path.parents and not (HAS_AIRFLOW and by_own_settings):
        return True
    return None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Airflow runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A store, a sandbox and a receiver, which `voiceflow_default` names."""
    from tests.airflow.scene import surroundings

    with surroundings(tmp_path_factory.mktemp("on")) as staged:
        yield staged


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger looks at once, and does not wait until Airflow has noticed the end of a task's process."""
    from airflow_provider.triggers import voice

    monkeypatch.setattr(voice, "safe_after", lambda: 0.0)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set a connection, as an environment variable: no database is asked."""

    def set_connection(conn_id: str = "voiceflow_default", **parts: object) -> None:
        connection = {"conn_type": "voiceflow", **parts}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return set_connection
