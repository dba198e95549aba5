"""A call flow with `{{column}}` in its texts: compiled once, filled in for every row.

Only the strings of the parsed JSON are templates, never the JSON itself, so that no cell can break out of its quotes.
The templates are Jinja's, in its sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from voiceflow_worker.campaigns.calls.completion import FIRST_CALL, complete
from voiceflow_worker.campaigns.calls.template_text import (
    Leaf,
    MissingValueError,
    TemplateSyntaxProblemError,
    is_template,
)
from voiceflow_worker.campaigns.files.json_rows import LARGEST_DOCUMENT, read_json
from voiceflow_worker.campaigns.files.lines import read_text
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.flows.actions import PARAMS, Action, Param
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.values import describe, is_list, is_object

PLACEHOLDER = "+6587654321"
"""Stands for a number where only the rest is judged."""

_LEFT_OUT = object()
"""Stands for an optional parameter whose cell is empty: it is not sent."""


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """Why one place of the template could not be filled in for a row, and the column that is to blame, if one is."""

    path: str
    column: str | None
    message: str


@dataclass(slots=True)
class Filled:
    """A template filled in for one row; `body` may be changed at its top, and what is within is shared by all rows."""

    body: dict[str, Any]
    problems: list[TemplateProblem] = field(default_factory=list[TemplateProblem])


class FlowTemplate:
    """A compiled template; made by `load`, `parse` or `speaking`."""

    def __init__(self, body: Mapping[str, object], *, name: str, findings: tuple[Finding, ...]) -> None:
        self.name = name
        self.findings = findings
        """Warnings about what is fixed in the template, told once and not for every row."""
        self._leaves: dict[str, Leaf] = {}
        self._tree = self._compiled(body, "$", None)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The template in a file; comments and trailing commas are accepted.

        Raises CampaignFileError when the file cannot be read, a place cannot be compiled, or what is fixed in it breaks
        rules of the 8x8 contract; its findings name every place.
        """
        text = read_text(path, most_bytes=LARGEST_DOCUMENT)
        try:
            body = read_json(text)
        except ValueError as error:
            raise CampaignFileError(f"{path} {error}") from None
        return cls.parse(body, name=str(path))

    @classmethod
    def speaking(cls, text: str) -> Self:
        """The template that speaks a text and hangs up. Raises CampaignFileError if the text cannot be compiled."""
        flow: list[dict[str, object]] = [
            {"action": Action.MAKE_CALL.value},
            {"action": Action.SAY.value, "params": {"text": text}},
            {"action": Action.HANGUP.value},
        ]
        return cls.parse({"callflow": flow}, name="--say")

    @classmethod
    def bare(cls) -> Self:
        """The template that says nothing: for looking at a file's numbers and times alone."""
        return cls.parse({"callflow": [{"action": Action.MAKE_CALL.value}]}, name="")

    @classmethod
    def parse(cls, body: object, *, name: str) -> Self:
        """The template in a JSON value, called `name` in findings. Raises CampaignFileError as `load` does."""
        if not is_object(body):
            raise CampaignFileError(
                f"{name} holds {describe(body)}, and a call flow is needed: an object with a callflow"
            )
        try:
            template = cls(body, name=name, findings=())
        except TemplateSyntaxProblemError as error:
            found = Finding(message=str(error), path=error.path, file=name)
            raise CampaignFileError(f"{name}: {error.path} {error}", [found]) from None
        fixed = template.problems_of_what_is_fixed(body)
        errors = [found for found in fixed if found.is_error]
        if errors:
            lines = "; ".join(f"{found.path} {found.message}" for found in errors)
            raise CampaignFileError(f"{name} is no call flow that 8x8 would take: {lines}", errors)
        template.findings = tuple(fixed)
        return template

    @property
    def variables(self) -> frozenset[str]:
        """The names of all variables that the template uses."""
        return frozenset(name for leaf in self._leaves.values() for name in leaf.variables)

    def column_of(self, path: str | None) -> str | None:
        """The one variable that decides what stands at a path of the body; None when none or several do."""
        leaf = self._leaves.get(path or "")
        return next(iter(leaf.variables)) if leaf is not None and len(leaf.variables) == 1 else None

    def varies_at(self, path: str | None) -> bool:
        """Whether what stands at a path of the body comes from the row."""
        return path in self._leaves

    def fill(self, values: Mapping[str, object]) -> Filled:
        """The template with a row's values in it. Values that are empty texts or null count as missing where used.

        An optional parameter whose text is one empty variable is left out; the text of a number or a boolean becomes
        one.
        """
        problems: list[TemplateProblem] = []
        return Filled(dict(_filled(self._tree, values, problems)), problems)

    def problems_of_what_is_fixed(self, body: Mapping[str, object]) -> list[Finding]:
        """What is wrong with the template whatever the rows say."""
        # What a row or an option fills in is not the template's to have.
        specimen = dict(body)
        complete(specimen, destination=PLACEHOLDER, source=PLACEHOLDER, voice_profile="any")
        not_its_own = {*self._leaves, f"{FIRST_CALL}.source", f"{FIRST_CALL}.destination"}
        return [
            replace(found, file=self.name) for found in find_problems(specimen) if found.path not in not_its_own
        ] + self._fixed_number(body)

    def _fixed_number(self, body: Mapping[str, object]) -> list[Finding]:
        path = f"{FIRST_CALL}.destination"
        flow = body.get("callflow")
        params = flow[0].get("params") if is_list(flow) and flow and is_object(flow[0]) else None
        number = params.get("destination") if is_object(params) else None
        if number is None or path in self._leaves:
            return []
        message = (
            f"is fixed to {number}, and each row calls the number in its own column; write {{{{destination}}}} here"
        )
        return [Finding(message=message, severity=Severity.WARNING, path=path, file=self.name)]

    def _compiled(self, value: object, path: str, param: Param | None) -> _Node:
        if isinstance(value, str) and is_template(value):
            self._leaves[path] = leaf = Leaf(value, path=path, param=param)
            return leaf
        if is_list(value):
            items = tuple(self._compiled(item, f"{path}[{index}]", None) for index, item in enumerate(value))
            return _Constant(value) if all(isinstance(item, _Constant) for item in items) else _Array(items)
        if not is_object(value):
            return _Constant(value)
        entry_params = _params_of(value)
        pairs = tuple(
            (key, self._compiled_params(item, f"{path}.{key}", entry_params if key == "params" else {}))
            for key, item in value.items()
        )
        return _Constant(value) if all(isinstance(node, _Constant) for _, node in pairs) else _Object(pairs)

    def _compiled_params(self, params: object, path: str, known: Mapping[str, Param]) -> _Node:
        if not known or not is_object(params):
            return self._compiled(params, path, None)
        pairs = tuple((key, self._compiled(item, f"{path}.{key}", known.get(key))) for key, item in params.items())
        return _Constant(params) if all(isinstance(node, _Constant) for _, node in pairs) else _Object(pairs)


@dataclass(frozen=True, slots=True)
class _Constant:
    """What is the same in every row, and shared by their bodies."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Array:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Object:
    pairs: tuple[tuple[str, _Node], ...]


_Node = Leaf | _Constant | _Array | _Object


def _filled(node: _Node, values: Mapping[str, object], problems: list[TemplateProblem]) -> Any:
    match node:
        case _Constant():
            return node.value
        case Leaf():
            return _leaf_value(node, values, problems)
        case _Array():
            return [_filled(item, values, problems) for item in node.items]
        case _Object():
            pairs = [(key, _filled(item, values, problems)) for key, item in node.pairs]
            return {key: item for key, item in pairs if item is not _LEFT_OUT}


def _leaf_value(leaf: Leaf, values: Mapping[str, object], problems: list[TemplateProblem]) -> object:
    if leaf.may_be_left_out and values.get(leaf.only or "") in (None, ""):
        return _LEFT_OUT
    try:
        return leaf.value(values)
    except MissingValueError as error:
        problems += [TemplateProblem(leaf.path, name, message) for name, message in error.missing.items()]
    except ValueError as error:
        problems.append(TemplateProblem(leaf.path, None, str(error)))
    return leaf.text


def _params_of(entry: Mapping[str, object]) -> Mapping[str, Param]:
    name = entry.get("action")
    return PARAMS[Action(name)] if isinstance(name, str) and name in set(Action) else {}
