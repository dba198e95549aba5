"""The names that a release keeps: settings, options, metrics, fields of JSON, `/v1`, and the public Python API.

Each name has one line with its type. `names.json` has those of the last release. `./dev names` writes it, which belongs
to the making of a release and to nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from datetime import timedelta
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import griffe

from tests.docs.command_page import commands
from tests.docs.pages import DOCS
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import open_store
from voiceflow_worker.api.app import fast_api
from voiceflow_worker.cli.program import program, run
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.service import metrics
from voiceflow_worker.settings import PREFIX, Settings, defaults

ROOT = DOCS.parent
VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
FILE = Path(__file__).with_name("names.json")
REQUIRED = "required"
Names = dict[str, str]


def _type(hint: Any) -> str:
    """A type as text, without its checks."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(inner[0])
    if origin in {Union, UnionType, Literal}:
        return " | ".join(sorted(map(_type, inner)))
    if isinstance(hint, NewType):
        return hint.__name__
    name = str(getattr(origin or hint, "__name__", hint))
    return f"{name}[{', '.join(map(_type, inner))}]" if inner else name


def settings() -> Names:
    """The settings, with the types of their values."""
    hints = get_type_hints(Settings)
    return {PREFIX + name.upper(): _type(hints[name]) for name in defaults()}


def options() -> Names:
    """The commands with their arguments and options."""
    found: Names = {}
    for command, app in commands(program()):
        found[command] = "command"
        for each in app.assemble_argument_collection(parse_docstring=True):
            kind = _type(each.hint) + (f", {REQUIRED}" if each.required else "")
            found |= {f"{command} {name}": kind for name in each.names if each.show and name != "*"}
    return found


def figures() -> Names:
    """The metrics, with their labels."""
    named = [each for each in vars(metrics).values() if isinstance(each, metrics.MetricOf)]
    return {each.name: ",".join(each.labels) for each in named}


def http_api() -> Names:
    """The operations of `/v1` with their parameters and answers, and the fields of what they take and return."""
    found: Names = {}
    whole = fast_api().openapi()
    bodies = [
        each["requestBody"] for path in whole["paths"].values() for each in path.values() if "requestBody" in each
    ]
    taken = {_schema(content["schema"]) for each in bodies for content in each["content"].values()}
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            found[name] = "operation"
            for each in operation.get("parameters", ()):
                if "name" in each:
                    kind = f", {REQUIRED}" if each.get("required") and each["in"] != "path" else ""
                    found[f"{name} {each['in']} {each['name']}"] = _schema(each["schema"]) + kind
            for media, body in operation.get("requestBody", {}).get("content", {}).items():
                found[f"{name} takes {media}"] = _schema(body["schema"])
            for status, answer in operation["responses"].items():
                found[f"{name} answers {status}"] = ", ".join(
                    f"{media} {_schema(of.get('schema', {}))}" for media, of in answer.get("content", {}).items()
                )
    for name, schema in whole["components"]["schemas"].items():
        of, must = ("request", schema.get("required", ())) if name in taken else ("answer", ())
        found[f"{of} {name}"] = _schema(schema)
        for field, kind in schema.get("properties", {}).items():
            found[f"{of} {name}.{field}"] = _schema(kind) + (f", {REQUIRED}" if field in must else "")
    return found


def _schema(schema: Mapping[str, Any]) -> str:
    """The type that a schema says, without its words."""
    if schema.get("$ref"):
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " | ".join(sorted(map(_schema, schema[several])))
    kind = schema.get("type", "any")
    text = "|".join(sorted(kind)) if isinstance(kind, list) else str(kind)
    if "items" in schema:
        text += f" of {_schema(schema['items'])}"
    if "enum" in schema:
        text += f" {sorted(map(str, schema['enum']))}"
    return text


def documents() -> Names:
    """The fields of the JSON that commands print, of a small store with a call in each usual state."""
    with tempfile.TemporaryDirectory() as name, chdir(name):
        folder = Path(name)
        url = f"sqlite:///{folder}/calls.db"
        job_id = asyncio.run(_filled(url))
        (folder / "more.csv").write_text("destination,name\n+6583334444,Ana\n")
        (folder / "bad.csv").write_text("destination,name\n12,Ana\n")
        said = (
            "--say",
            "Hello {{name}}",
            "--source",
            "+6531234567",
            "--voice-profile",
            "en-SG-LunaNeural",
            "--window",
            "any",
        )
        held = {"VOICEFLOW_STORE": url, "VOICEFLOW_STATE_DIR": name}
        found: Names = {}
        for tokens in (
            ("status",), ("batches",), ("report", "--batch", "march"), ("calls", "list"), ("calls", "show", job_id),
            ("check", "bad.csv", *said), ("check", "more.csv", *said), ("enqueue", "more.csv", *said, "--dry-run"),
            ("enqueue", "bad.csv", *said, "--dry-run"),
            ("enqueue", "more.csv", *said, "--batch", "april"), ("hold", "--note", "lunch"), ("resume",), ("rate", "5"),
            ("suppress", "add", "+6585556666"), ("suppress", "list"), ("suppress", "remove", "+6585556666"),
            ("calls", "cancel", "--batch", "april", "--yes"), ("calls", "redial", job_id, "--force", "--note", "again"),
            ("audit",), ("forget", "+6583334444", "--yes")
        ):  # fmt: skip
            command = " ".join(each for each in tokens[:2] if each.isalpha())
            for document in _printed(*tokens, "--json", environment=held):
                for place, kind in _fields(document):
                    known = found.get(f"{command} {place}", "")
                    found[f"{command} {place}"] = "|".join(sorted({*filter(None, known.split("|")), kind}))
    return found


async def _filled(url: str) -> str:
    async with open_store(url) as store:
        engine = Engine(store, ScriptedVoice())
        await engine.store.clock.sleep(0)
        options: dict[str, Any] = {"batch": "march", "data": {"name": "Ana"}, "valid_for": timedelta(hours=2)}
        for place in range(3):
            await engine.queue.enqueue(flow(number(place)), unique_key=f"key-{place}", **options)
        sent = await engine.send(limit=2)
        await engine.summarise(sent[0], SessionStatus.COMPLETED)
        return sent[0].id


def _printed(*tokens: str, environment: Mapping[str, str]) -> list[Any]:
    """The JSON documents that a command prints."""
    out, was = TextIOWrapper(BytesIO(), write_through=True), dict(os.environ)
    os.environ.update(environment)
    try:
        with redirect_stdout(out), redirect_stderr(TextIOWrapper(BytesIO())):
            run(list(tokens))
    finally:
        os.environ.clear()
        os.environ.update(was)
    text = out.buffer.getvalue().decode()
    assert text.strip(), tokens
    return [json.loads(line) for line in text.splitlines()]


_KINDS = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null", list: "list", dict: "object"}
_OF_DATA = re.compile(r"^\d{4}-\d\d-\d\dT|^\+?\d|^key-")


def _fields(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    yield place or ".", _KINDS[type(value)]
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _fields(each, f"{place}.{'*' if _OF_DATA.match(name) else name}")
    elif isinstance(value, list):
        for each in value:
            yield from _fields(each, f"{place}[]")


def python_api() -> Names:
    """The names that programs import, with their parameters, results, fields and values, as the sources have them."""
    found: Names = {}
    loader = griffe.GriffeLoader(search_paths=[str(ROOT)])
    for package in ("voiceflow_worker", "airflow_provider"):
        loader.load(package)
    loader.resolve_aliases(implicit=True, external=False)
    for module in PUBLIC_MODULES:
        for name, member in loader.modules_collection[module].members.items():
            is_listed = module in _LISTED or (not member.is_alias and not member.is_module)
            if is_listed and not name.startswith("_") and name != "annotations":
                found |= _of_member(member, f"{module}.{name}")
    return found


PUBLIC_MODULES = (
    "voiceflow_worker", "voiceflow_worker.types", "voiceflow_worker.errors", "voiceflow_worker.ivr",
    "voiceflow_worker.notify", "voiceflow_worker.pacing", "airflow_provider.operators.voice",
    "airflow_provider.sensors.voice", "airflow_provider.hooks.voice", "airflow_provider.notifications.voice",
)  # fmt: skip
_LISTED = {
    each for each in PUBLIC_MODULES if not each.endswith(("errors", "sensors.voice", "hooks.voice", "ions.voice"))
}
"""Modules that only name what others define."""


def _of_member(member: griffe.Object | griffe.Alias, name: str) -> Names:
    try:
        target = member.final_target if isinstance(member, griffe.Alias) else member
    except griffe.AliasResolutionError:  # of another library
        return {}
    if isinstance(target, griffe.Attribute):
        return {name: f"{target.annotation or 'value'}"}
    if isinstance(target, griffe.Function):
        return _of_function(target, name)
    if not isinstance(target, griffe.Class):
        return {}
    found: Names = {name: "class"}
    for inner, each in target.all_members.items():
        if not inner.startswith("_") or inner in {"__init__", "__call__"}:
            found |= _of_member(each, f"{name}.{inner}")
    return found


def _of_function(function: griffe.Function, name: str) -> Names:
    found: Names = {name: f"-> {function.returns}"}
    for place, each in enumerate(function.parameters):
        if each.name not in {"self", "cls"}:
            by = f" at {place}" if each.kind is not griffe.ParameterKind.keyword_only else ""
            must = f", {REQUIRED}" if each.required else ""
            found[f"{name}({each.name})"] = f"{each.annotation}{by}{must}"
    return found


KINDS: Mapping[str, Callable[[], Names]] = {
    "settings": settings,
    "options": options,
    "metrics": figures,
    "json": documents,
    "http": http_api,
    "python": python_api,
}


def broken(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What somebody who uses the names of a release would have to change, a sentence each."""
    found = [f"{kind}: {name} ({what}) is gone" for name, what in old.items() if name not in new]
    for name, what in new.items():
        if name in old:
            if not _keeps(kind, name, old[name], what):
                found.append(f"{kind}: {name} was {old[name]}, and is {what}")
        elif what.endswith(REQUIRED):
            owner = max((each for each in new if each != name and name.startswith(each)), key=len, default="")
            if owner in old:
                found.append(f"{kind}: {name} is demanded of those who do not know it")
    return found


def _keeps(kind: str, name: str, old: str, new: str) -> bool:
    """Whether a type keeps what the other promised: what is taken may become more, what is given may become less."""
    if old == new or kind == "metrics":
        return old == new
    (was, place, must), (now, place_now, must_now) = map(_parts, (old, new))
    before, after = ({*map(str.strip, each.split("|"))} for each in (was, now))
    if kind == "json":
        return before == {"null"} or after - {"null"} <= before
    is_taken = kind in {"settings", "options"} or bool(place or re.search(r"[(]| takes | query |^request ", name))
    is_wider = before <= after if is_taken else after <= before
    return place == place_now and must >= must_now and is_wider


def _parts(what: str) -> tuple[str, str, bool]:
    """A type, the place of a parameter, and whether it must be given."""
    kind, comma, _ = what.partition(f", {REQUIRED}")
    kind, _, place = kind.partition(" at ")
    return kind, place, bool(comma)


def is_major_step(old: str, new: str, changelog: str) -> bool:
    """Return True if a version may break the names of another: its first number is higher, and in the changelog."""
    return int(new.partition(".")[0]) > int(old.partition(".")[0]) and f"\n## {new}" in changelog


def problems(kinds: Iterable[str] = tuple(KINDS)) -> list[str]:
    """What the sources would break of the last release, a sentence each; none if their version is a major step."""
    listed = json.loads(FILE.read_text("utf-8"))
    if is_major_step(listed["version"], VERSION, (ROOT / "CHANGELOG.md").read_text("utf-8")):
        return []
    return [problem for kind in kinds for problem in broken(kind, listed[kind], KINDS[kind]())]


def main() -> str | None:
    """Write the list of a release; with `check`, return what is broken."""
    if sys.argv[1:] == ["check"]:
        found = problems()
        kept = f"the names of {json.loads(FILE.read_text('utf-8'))['version']} are kept"
        return "\n".join([*found, f"{kept}: give them back, or make a major version of it"]) if found else None
    listed = {"version": VERSION, **{kind: dict(sorted(of().items())) for kind, of in KINDS.items()}}
    FILE.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main())
