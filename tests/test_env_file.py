"""The file of a service's settings is read as systemd reads it, and by every command in the same way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.machine import machine
from tests.deploy.proxies import DEPLOY
from voiceflow_worker import load_settings
from voiceflow_worker.env_file import read_env_file
from voiceflow_worker.errors import SettingsError

URL = "postgresql://v:p%40w@db/calls?schema=c&connect_timeout=3"
READ = {
    f"A={URL}": {"A": URL},
    "A=pa$HOME;rm `x` & (y) <z>": {"A": "pa$HOME;rm `x` & (y) <z>"},
    "A = b ": {"A": "b"},
    "A=": {"A": ""},
    "A=Bearer a b": {"A": "Bearer a b"},
    "A='it''s' x": {"A": "itsx"},
    "A='a\"b\\n'": {"A": 'a"b\\n'},
    'A="a \\" \\$ \\\\ \\n \' #"': {"A": "a \" $ \\ \\n ' #"},
    "A=a\\ b\\\\c ": {"A": "a b\\c"},
    "A=a \\\n  b": {"A": "a   b"},
    'A="a\\\nb\nc"': {"A": "ab\nc"},
    "A=b # c": {"A": "b # c"},
    "# c\n; d\n\nA=b": {"A": "b"},
    "A=b\r\nB=c\r\n": {"A": "b", "B": "c"},
    "A=b\nA=c": {"A": "c"},
    "A=b=c": {"A": "b=c"},
    "A=\té \t": {"A": "é"},
    "A=b\\": {"A": "b"},
    "A=b\\ ": {"A": "b "},
}
REFUSED = {
    "export A=b": "line 1: write NAME=value, without `export`",
    "A=b\nC d\nE=f": "line 2",
    "A=b\n2C=d": "line 2",
    "A=b\n\nC='d\nE=f\n": "a quote in the value of C in line 3 that is not closed",
    "# c \\\nA=b": "the comment in line 1, which versions of systemd read differently",
    "\ufeffA=b": "byte order mark",
    "A=b\0": "NUL",
    "A=b\x07": "control character in the value of A in line 1",
}


def test_a_file_is_read_as_systemd_reads_it() -> None:
    for text, expected in READ.items():
        assert read_env_file(text.encode()) == expected, text


def test_what_systemd_would_drop_without_a_word_is_refused() -> None:
    for text, said in REFUSED.items():
        with pytest.raises(ValueError, match=said):
            read_env_file(text.encode())
    with pytest.raises(ValueError, match="UTF-8"):
        read_env_file("A=é".encode("latin-1"))


@pytest.mark.slow
def test_systemd_itself_reads_it_so() -> None:
    with machine() as booted:
        for place, (text, expected) in enumerate(READ.items()):
            booted.write(f"/root/{place}.env", text)
            asked = ["systemd-run", "--quiet", "--pipe", "--wait", f"--property=EnvironmentFile=/root/{place}.env"]
            told = booted.done(*asked, "cat", "/proc/self/environ").split("\0")
            found = dict(each.split("=", 1) for each in told if "=" in each)
            assert {name: found[name] for name in expected} == expected, text


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a service's settings, and a command's own directory, which is not the service's."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "voiceflow.env"
    file.write_text(f"VOICEFLOW_STORE={URL}\nVOICEFLOW_API_KEY='a b'\n")
    monkeypatch.setenv("VOICEFLOW_ENV_FILE", str(file))
    return file


def test_settings_come_from_the_file_of_the_service_and_not_from_the_working_directory(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(
        "VOICEFLOW_STORE=sqlite:///other.db\nVOICEFLOW_RATE=1\nVOICEFLOW_BASE_URL=http://evil.example\n"
    )
    settings = load_settings()
    assert (settings.store, settings.rate, settings.base_url) == (URL, 10, None)
    assert settings.place_of("store") == f"VOICEFLOW_STORE ({service})"
    monkeypatch.setenv("VOICEFLOW_QUEUE", "mine")
    assert load_settings().queue == "mine"


def test_the_file_of_a_service_means_the_same_in_every_directory(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(text: str) -> str:
        service.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load_settings()
        return str(caught.value)

    assert "names no store" in told("VOICEFLOW_RATE=5\n")
    assert "another file in each directory" in told("VOICEFLOW_STORE=sqlite:///calls.db\n")
    assert "another file in each directory" in told(f"VOICEFLOW_STORE={URL}\nVOICEFLOW_API_KEY_FILE=8x8\n")
    assert "line 1" in told(f"export VOICEFLOW_STORE={URL}\n")
    monkeypatch.setenv("VOICEFLOW_STORE", "sqlite:////tmp/x.db")
    assert "name two stores" in told(f"VOICEFLOW_STORE={URL}\n")
    assert load_settings(store="memory://").store == "memory://"
    monkeypatch.delenv("VOICEFLOW_STORE")
    service.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        load_settings()
    monkeypatch.setenv("VOICEFLOW_ENV_FILE", "voiceflow.env")
    with pytest.raises(SettingsError, match="whole path"):
        load_settings()


def wrapper(folder: Path, file: Path) -> Path:
    """The shipped command of a deployed machine, with this file for the units' one, and our program."""
    text = (DEPLOY / "systemd" / "voiceflow").read_text(encoding="utf-8")
    text = text.replace("/etc/voiceflow/voiceflow.env", str(file)).replace(
        "/opt/voiceflow/bin/voiceflow", f"{sys.executable} -m voiceflow_worker"
    )
    made = folder / "voiceflow"
    made.write_text(text, encoding="utf-8")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made


def test_the_command_of_a_deployed_machine_opens_the_store_of_the_service_and_makes_none(tmp_path: Path) -> None:
    calls, file = tmp_path / "state" / "the calls & more.db", tmp_path / "voiceflow.env"
    here = tmp_path / "here"
    for folder in (here, calls.parent):
        folder.mkdir()
    (here / ".env").write_text("VOICEFLOW_STORE=sqlite:///other.db\n")
    file.write_text(f'VOICEFLOW_STORE="sqlite:///{calls}"\nVOICEFLOW_SOURCE=+6531234567\n')
    command = wrapper(tmp_path, file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *words], cwd=here, env=environment, capture_output=True, text=True, check=False)

    done = run("hold")
    assert done.returncode == 3, done
    assert str(calls) in done.stderr
    assert "voiceflow doctor --make" in done.stderr
    assert not list(tmp_path.rglob("*.db"))
    assert run("doctor", "--make").returncode == 0
    done = run("suppress", "add", "+6581234567")
    assert done.returncode == 0, done
    assert f"in the store sqlite:///{calls}, named by VOICEFLOW_STORE ({file})" in done.stderr
    assert sorted(tmp_path.rglob("*.db")) == [calls]
