"""One text of a call flow template: compiled once, rendered for every row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from voiceflow_worker.model.flows.actions import Param, ParamKind

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_ONLY = re.compile(r"\s*\{\{\s*([A-Za-z_]\w*)\s*\}\}\s*")
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_PIECE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,15}\.\d{1,15}", re.ASCII)


class MissingValueError(ValueError):
    """A row lacks values that a text needs: `missing` tells for each variable what to do."""

    def __init__(self, missing: Mapping[str, str]) -> None:
        self.missing = missing
        super().__init__("; ".join(missing.values()))


class TemplateSyntaxProblemError(ValueError):
    """A text of a template cannot be compiled; `path` is its place."""

    def __init__(self, message: str, *, path: str) -> None:
        self.path = path
        super().__init__(message)


def is_template(text: str) -> bool:
    """Whether a text has anything for Jinja in it."""
    return "{{" in text or "{%" in text or "{#" in text


class Leaf:
    """A text with variables at `path` of the body. Raises TemplateSyntaxProblemError if it cannot be compiled."""

    __slots__ = ("_kind", "_template", "may_be_left_out", "only", "path", "text", "variables")

    def __init__(self, text: str, *, path: str, param: Param | None) -> None:
        from jinja2 import TemplateError, meta

        self.text = text
        self.path = path
        environment = _environment()
        try:
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(text)))
            self._template = environment.from_string(text)
        except TemplateError:
            raise TemplateSyntaxProblemError(_what_is_wrong(text), path=path) from None
        only = _ONLY.fullmatch(text)
        self.only = only[1] if only else None
        self.may_be_left_out = param is not None and not param.required and self.only is not None
        self._kind = param.kind if param is not None else None

    def value(self, values: Mapping[str, object]) -> object:
        """The text with a row's values in it; for a parameter that is a number or a boolean, that number or boolean.

        Raises MissingValueError for values that are missing or empty, and ValueError when the template fails.
        """
        # Most leaves are one variable: 0.2 µs like this, 7 µs through Jinja.
        plain = values.get(self.only) if self.only is not None else None
        text = plain if isinstance(plain, str) and plain else self._rendered(values)
        return _typed(text, self._kind)

    def _rendered(self, values: Mapping[str, object]) -> str:
        from jinja2 import UndefinedError

        missing: dict[str, str] = {}
        context = _context(values, self.variables)
        for _ in range(len(self.variables) + 1):
            try:
                text = self._template.render(context)
            except UndefinedError as error:
                name = _undefined_name(str(error.message), missing)
                if name is None:
                    raise ValueError(f"cannot be filled in with this row: {error.message}") from None
                missing[name] = (
                    f"is empty, and the template needs it; fill it in, or write {{{{ {name} or 'something' }}}}"
                    if name in values
                    else f"is not among the columns, and the template needs it; add a column {name}"
                )
                context = {**context, name: "x"}  # so that all that is missing is told at once
            except Exception as error:  # noqa: BLE001 (a template may fail in any way; the row is told, the rest goes on)
                raise ValueError(f"cannot be filled in with this row: {error}") from None
            else:
                if not missing:
                    return text
                break
        raise MissingValueError(missing)


def _what_is_wrong(text: str) -> str:
    """What is wrong with a text that cannot be compiled, in the words of those who wrote it."""
    from jinja2 import TemplateError
    from jinja2.exceptions import TemplateAssertionError

    hint = "write {{ … }} around the name of a column, with _ for each space in it"
    for piece in _PIECE.findall(text):
        try:
            _environment().from_string(piece)
        except TemplateAssertionError as error:
            # "No filter named 'x'.", the one thing that the parser says as people would.
            return f"cannot be read as a template: {piece}: {error.message}"
        except TemplateError:
            if piece.startswith("{{"):
                return f"cannot be read as a template: {piece} is not the name of a column; {hint}"
    if text.count("{{") != text.count("}}"):
        return f"cannot be read as a template: a {{{{ has no }}}}, or a }}}} no {{{{; {hint}"
    return f"cannot be read as a template: a {{% … %}} in it is not complete; {hint}"


def _undefined_name(message: str, known: Mapping[str, str]) -> str | None:
    found = _UNDEFINED.search(message)
    return found[1] if found and found[1] not in known else None


def _context(values: Mapping[str, object], variables: frozenset[str]) -> dict[str, object]:
    """What the template sees: the variables that it names, and those that are empty as undefined ones."""
    return {
        name: _blank(name) if (value := values[name]) in (None, "") else value for name in variables if name in values
    }


@lru_cache(maxsize=1024)
def _blank(name: str) -> object:
    """What stands for an empty cell: false in a condition, replaced by `default` and `or`, an error when printed."""
    from jinja2 import Undefined, UndefinedError

    class Blank(Undefined):
        def __str__(self) -> str:
            raise UndefinedError(f"{name!r} is undefined")

    return Blank(name=name)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    # 60 ms to import: loaded with the first template.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)


def _typed(text: str, kind: ParamKind | None) -> object:
    """The text as the kind of value that a parameter takes; itself where it is none, for the rules to judge."""
    word = text.strip()
    match kind:
        case ParamKind.INTEGER if _WHOLE.fullmatch(word):
            return int(word)
        case ParamKind.NUMBER | ParamKind.INTEGER if _WHOLE.fullmatch(word) or _DECIMAL.fullmatch(word):
            return float(word)
        case ParamKind.BOOLEAN if word.casefold() in {"true", "false"}:
            return word.casefold() == "true"
        case _:
            return text
