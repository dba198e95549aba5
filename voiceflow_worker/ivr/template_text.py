"""A text of a call flow template, compiled once and rendered for each row.

A text has names, filters and conditions, in the syntax of Jinja. Loops, calculations and calls are refused, so that the
size of a text and of its values bounds the cost of filling it in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from voiceflow_worker.ivr.speech_filters import (
    VOICE,
    ZONE,
    FilterError,
    SpecimenText,
    speech_filters,
)
from voiceflow_worker.model.flows.actions import Param, ParamKind
from voiceflow_worker.model.flows.values import (
    DECIMAL,
    WHOLE,
    UnspeakableError,
    is_list,
    is_missing,
    is_object,
    value_text,
    written,
)
from voiceflow_worker.model.text.wording import name_among

if TYPE_CHECKING:
    from jinja2.nodes import Node, Template
    from jinja2.runtime import Context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

LEFT_OUT = object()
"""The value of an optional parameter whose cell is empty: the parameter is not sent."""
LONGEST = 10_000
"""The largest number of characters in a text, in a value that it speaks, and in what it becomes. 8x8 speaks 3000."""
_MOST_PARTS, _DEEPEST = 1000, 30
"""The largest number of parts (names, filters, conditions, constants) of a text, and how deep they may be nested."""
_FILTERS = ("capitalize", "d", "default", "first", "last", "length", "lower", "trim", "upper")
"""The filters of Jinja that a text may have: none makes a text much longer, or takes long."""
_TESTS = ("defined", "in", "none", "undefined")
_SINGLE_NAME = re.compile(r"\s*\{\{\s*([^\W\d]\w*)\s*\}\}\s*")
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_SINGLE_BRACKETS = re.compile(r"\{\s*([^\W\d][\w.]*)\s*\}")
# What is not closed goes to the end: to look for an end from each of its brackets would take the square of its size.
_PIECE = re.compile(r"\{\{.*?(?:\}\}|\Z)|\{%.*?(?:%\}|\Z)", re.DOTALL)
_COMPARED = "as a comparison reads it"
"""The filter of the values in comparisons. No text can write it: its name has spaces."""
_LEAVES_OUT_EMPTY = "leaves out empty"
"""The variable that lets an empty value be printed as nothing. No text can write it."""


class TemplateValueError(ValueError):
    """Raised when a text cannot be filled in with the values of a row. `column` is the one at fault, if it is known.

    `path` is the place of the text in the body. `is_missing` is True if the column has no value, or does not exist.
    """

    def __init__(self, path: str, column: str | None, message: str, *, is_missing: bool = False) -> None:
        self.path = path
        self.column = column
        self.message = message
        self.is_missing = is_missing
        super().__init__(message)


class TemplateSyntaxError(ValueError):
    """Raised when a text of a template cannot be compiled. `path` is the place of the text in the body."""

    def __init__(self, message: str, *, path: str) -> None:
        self.path = path
        super().__init__(message)


def is_template(text: str) -> bool:
    """Return True if a text contains Jinja syntax."""
    return "{{" in text or "{%" in text or "{#" in text


def require_filled_in(text: str, *, path: str = "") -> None:
    """Raise TemplateSyntaxError for a text with a name in single brackets, and for one that is too long."""
    if len(text) > LONGEST:
        raise TemplateSyntaxError(_too_long(text), path=path)
    if single := _SINGLE_BRACKETS.search(_PIECE.sub("", text)):
        raise TemplateSyntaxError(
            f"cannot be read as a template: {single[0]} would be spoken as it is; write {{{{{single[1]}}}}}",
            path=path,
        )


class TemplateText:
    """A text with variables, at `path` of the body. `voice` is the voiceProfile beside it, if any.

    Raises TemplateSyntaxError if the text cannot be compiled.
    """

    def __init__(self, text: str, *, path: str, param: Param | None, voice: str | None = None) -> None:
        from jinja2 import meta, nodes

        self.text = text
        self.path = path
        try:
            tree = _parsed(text)
            self.variables: frozenset[str] = frozenset(meta.find_undeclared_variables(tree))
            _require_comparisons(tree)
            self._filtered = [(each.name, _names(each)) for each in tree.find_all(nodes.Filter)]
            self.computed: frozenset[str] = frozenset[str]().union(
                *map(_names, tree.find_all((nodes.Filter, nodes.Compare)))
            )
            """The variables that filters and comparisons read."""
            self.plain: frozenset[str] = _plain_names(tree)
            """The variables that are spoken as they are."""
            _read_alike(tree)
            self._template = _environment().from_string(tree)
        except ValueError as error:
            raise TemplateSyntaxError(f"cannot be read as a template: {error}", path=path) from None
        self._param = param
        self._voice = voice
        single = _SINGLE_NAME.fullmatch(text)
        self.single_name: str | None = single[1] if single else None
        """The variable that is the whole text; None if there is more in it."""
        self.is_optional: bool = param is not None and not param.required and single is not None
        self._kind = param.kind if param is not None else None
        self.is_spoken: bool = self._kind is ParamKind.SPEECH

    @property
    def only_variable(self) -> str | None:
        """Variable of the text; None if it has several."""
        return next(iter(self.variables)) if len(self.variables) == 1 else None

    def filled(self, values: Mapping[str, object], *, leaves_out_empty: bool = False) -> object:
        """Fill in the text with a row's values, and convert it to the type of its parameter.

        An optional parameter whose only variable is missing or empty is LEFT_OUT. With `leaves_out_empty`, a plain
        variable whose value is empty is left out of the text. Raises TemplateValueError.
        """
        if self.is_optional and is_missing(values.get(name_among(values, self.single_name or ""))):
            return LEFT_OUT
        context: dict[str, object] = {
            VOICE: self._voice_of(values), ZONE: values.get(ZONE), _LEAVES_OUT_EMPTY: leaves_out_empty,
        }  # fmt: skip
        name = self.only_variable
        try:
            for name in self.variables:
                if (key := name_among(values, name)) in values:
                    context[name] = _shown(values[key], name)
            name = self.only_variable
            text = self._template.render(context)
        except Exception as error:  # noqa: BLE001 - a template may raise anything; only this row is bad
            raise self._problem(error, name, values) from None
        if len(text) > LONGEST:
            long = f"becomes a text of {len(text)} characters, and at most {LONGEST} are spoken; shorten the values"
            raise TemplateValueError(self.path, self.only_variable, long)
        return text if self.is_spoken else _typed(text, self._kind)

    def _problem(self, error: Exception, name: str | None, values: Mapping[str, object]) -> TemplateValueError:
        """Return why the text could not be filled in with these values; `name` is the variable that was read."""
        from jinja2 import UndefinedError

        match error:
            case FilterError():
                return TemplateValueError(self.path, self._column_of(error, values), str(error))
            case UnspeakableError():
                return TemplateValueError(self.path, name, str(error))
            case UndefinedError() if undefined := _UNDEFINED.search(str(error.message)):
                why = f"has no value, but the text needs it; give {undefined[1]} a value"
                if name_among(values, undefined[1]) in values:
                    or_else = f"{{{{ {undefined[1]} or 'something' }}}}"
                    why = f"is empty, but the text needs it; fill it in, or write {or_else}"
                return TemplateValueError(self.path, undefined[1], why, is_missing=True)
            case UndefinedError():
                why = "a value has no such part; correct its name, or write the name of the column alone"
            case _:
                why = "a text is compared or mixed with a number; write a number, or compare it with a text"
        return TemplateValueError(self.path, name, f"cannot be filled in with this row: {why}")

    def _column_of(self, error: FilterError, values: Mapping[str, object]) -> str | None:
        """Return the variable whose value a filter could not use, if it is known."""
        names = {name for filter_, read in self._filtered if filter_ == error.name for name in read}
        same = [name for name in sorted(names) if written(values.get(name_among(values, name))) == error.value]
        return same[0] if same else next(iter(names)) if len(names) == 1 else self.only_variable

    def _voice_of(self, values: Mapping[str, object]) -> object:
        """Return the voice of the text: the voiceProfile beside it, else the voice of the row or the options."""
        named = None if self._voice is None else _SINGLE_NAME.fullmatch(self._voice)
        if self._voice is not None and named is None:
            return self._voice
        return (named and values.get(name_among(values, named[1]))) or values.get("voice_profile")


def _names(node: Node) -> frozenset[str]:
    from jinja2 import nodes

    return frozenset(each.name for each in node.find_all(nodes.Name))


def _plain_names(tree: Template) -> frozenset[str]:
    from jinja2 import nodes

    found, left = set[str](), list[Any](tree.find_all(nodes.Output))
    while left:
        node = left.pop()
        if isinstance(node, nodes.Name):
            found.add(node.name)
        elif not isinstance(node, nodes.Filter | nodes.Compare):
            left += node.iter_child_nodes()
    return frozenset(found)


def _require_comparisons(tree: Template) -> None:
    """Raise ValueError for a condition that is a variable which the text does not speak: every text is true."""
    from jinja2 import nodes

    parts: Mapping[Any, str] = {nodes.If: "test", nodes.CondExpr: "test", nodes.And: "left", nodes.Not: "node"}
    tests: list[Any] = [getattr(each, parts[type(each)]) for each in tree.find_all(tuple(parts))]
    names = [name for test in tests for name in (test, *test.find_all(nodes.Name)) if isinstance(name, nodes.Name)]
    tested = {id(name): name.name for name in names}
    compared = {id(name) for each in tree.find_all((nodes.Compare, nodes.Test)) for name in each.find_all(nodes.Name)}
    outputs = tree.find_all(nodes.Output)
    spoken = {name.name for each in outputs for name in each.find_all(nodes.Name) if id(name) not in tested}
    for place, name in tested.items():
        if place not in compared and name not in spoken:
            raise ValueError(
                f"the condition asks for {name}, which the text does not speak: compare it, such as "
                f'{{% if {name} == "yes" %}}'
            )


def _read_alike(tree: Template) -> None:
    """Change the comparisons of a text so that both sides are read in one way."""
    from jinja2 import nodes

    for each in tree.find_all(nodes.Compare):
        sides: list[Any] = [each.expr, *(operand.expr for operand in each.ops)]
        written_out: list[Any] = [
            each.value
            for side in sides
            for each in (side, *side.find_all(nodes.Const))
            if isinstance(each, nodes.Const)
        ]
        constants: list[Any] = []
        for value in written_out:
            constants += value if isinstance(value, list | tuple) else [value]
        if any(isinstance(constant, bool) for constant in constants):
            raise ValueError("a condition compares with true or false: write the text of the cell, as in == 'yes'")
        is_number = any(isinstance(constant, int | float) for constant in constants)
        alike = [nodes.Filter(side, _COMPARED, [nodes.Const(is_number)], [], None, None) for side in sides]
        each.expr = alike[0]
        for operand, side in zip(each.ops, alike[1:], strict=True):
            operand.expr = side


def _as_compared(value: object, is_number: bool) -> object:  # noqa: FBT001 - called by Jinja
    """Return a value as a comparison reads it: a number, or a trimmed text in small letters. Raises FilterError."""
    from jinja2 import Undefined

    if isinstance(value, Undefined) or is_object(value):
        return value
    if is_list(value):
        return [_as_compared(each, is_number) for each in value]
    text = written(value).casefold()
    if WHOLE.fullmatch(text) or DECIMAL.fullmatch(text):
        return float(text)
    if is_number and not isinstance(value, SpecimenText):
        raise FilterError(_COMPARED, text, f"{text[:40]!r} is compared with a number: write a number, such as 1250.50")
    return text


def _parsed(text: str) -> Template:
    """Return the tree of a text. Raises ValueError for anything but names, filters and conditions."""
    if len(text) > LONGEST:
        raise ValueError(f"it {_too_long(text)}")
    try:
        tree = _environment().parse(text)
    except RecursionError:
        raise ValueError(_TOO_MUCH) from None
    except Exception:  # noqa: BLE001 (besides its own errors, Jinja raises those of Python, such as for a long number)
        raise ValueError(_syntax_problem(text)) from None
    level: list[Node] = [tree]
    count = 0
    for _ in range(_DEEPEST):
        count += len(level)
        for node in level:
            if problem := _problem_of(node):
                raise ValueError(problem)
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            break
    if level or count > _MOST_PARTS:
        raise ValueError(_TOO_MUCH)
    return tree


def _too_long(text: str) -> str:
    return f"has {len(text)} characters, and at most {LONGEST} are read; shorten it"


_TOO_MUCH = "it has too many names, filters and conditions, or they are nested too deep; shorten it"


def _problem_of(node: Node) -> str | None:
    """Return what is wrong with a part of a text; None if nothing is."""
    from jinja2 import nodes

    known = _environment()
    match node:
        case nodes.Filter() if node.name not in known.filters:
            filters = ", ".join(sorted(name for name in known.filters if name != _COMPARED))
            return f"there is no filter {node.name}; the filters are {filters}"
        case nodes.Test() if node.name not in known.tests:
            return f"there is no test {node.name}; write a comparison, such as {{% if column == 'value' %}}"
        case nodes.Name(ctx="load") | nodes.Getitem(arg=nodes.Const()) if getattr(node, "name", "") != "self":
            return None
        case _ if type(node).__name__ in _PARTS:
            return None
        case _:
            return (
                "a text has names such as {{name}}, filters such as {{day|date}} and conditions such as "
                "{% if name %}, and no loops, calls or calculations: write what they make into the file or the data"
            )


_PARTS = frozenset({
    "Template", "Output", "TemplateData", "Const", "List", "Tuple", "Filter", "Keyword", "Test", "Concat", "If",
    "CondExpr", "Compare", "Operand", "And", "Or", "Not", "Neg", "Getattr",
})  # fmt: skip
"""The parts of a text in the words of Jinja, beside names."""


def _syntax_problem(text: str) -> str:
    hint = "write {{ … }} around a name, with _ for spaces and signs, and before a digit: {{_2nd_name}}"
    piece = _PIECE.search(text)
    return f"{piece[0][:60] if piece else text[:60]} is not complete, or not the name of a column; {hint}"


def _shown(value: object, name: str) -> object:
    """Return a value as a template has it: the text of a cell, or `_blank` for what is missing.

    Raises UnspeakableError.
    """
    if is_missing(value):
        return _blank()(name=name)
    if is_object(value):
        return {key: _shown(item, name) for key, item in value.items()}
    if is_list(value):
        return [_shown(item, name) for item in value]
    if len(text := value if isinstance(value, SpecimenText) else value_text(value)) > LONGEST:
        raise UnspeakableError(f"has {len(text)} characters, and at most {LONGEST} are spoken; shorten it")
    return text


@lru_cache(maxsize=1)
def _blank() -> type[Any]:
    """Return the type of an empty cell: false in conditions, and replaced by `default` and `or`. Printing it raises."""
    from jinja2 import Undefined, UndefinedError

    class Blank(Undefined):
        def __str__(self) -> str:
            raise UndefinedError(f"{self._undefined_name!r} is undefined")

    return Blank


def _finalizer() -> Callable[..., str]:
    from jinja2 import pass_context

    blank = _blank()

    @pass_context
    def finalize(context: Context, value: object) -> str:
        return "" if isinstance(value, blank) and context.get(_LEAVES_OUT_EMPTY) else value_text(value)

    return finalize


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    # Jinja is imported with the first template, because its import takes 60 ms.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Texts(ImmutableSandboxedEnvironment):
        """Values have parts as JSON has them: no attributes or methods of Python."""

        def getattr(self, obj: Any, attribute: str) -> Any:
            return self.getitem(obj, attribute)

        def getitem(self, obj: Any, argument: Any) -> Any:
            try:
                return obj[argument]
            except (LookupError, TypeError):
                return self.undefined(obj=obj, name=argument)

    made = Texts(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_finalizer())
    made.globals.clear()
    filters: dict[str, Any] = {name: made.filters[name] for name in _FILTERS}
    filters |= {"abs": _abs, "path_part": _path_part, _COMPARED: _as_compared}
    made.filters.clear()
    made.filters.update(filters | speech_filters())
    made.tests = {name: made.tests[name] for name in _TESTS}
    return made


def _abs(value: object) -> float:
    return abs(float(written(value)))


def _path_part(value: object) -> object:
    """Return a value as one part of the path of an address: `/voices/{{name|path_part}}.mp3`."""
    return value if isinstance(value, SpecimenText) else quote(written(value), safe="")


def _typed(text: str, kind: ParamKind | None) -> object:
    """Return the text converted to the type of its parameter. A text that does not fit is returned unchanged."""
    word = text.strip()
    match kind:
        case ParamKind.INTEGER if WHOLE.fullmatch(word):
            return int(word)
        case ParamKind.NUMBER | ParamKind.INTEGER if WHOLE.fullmatch(word) or DECIMAL.fullmatch(word):
            return float(word)
        case ParamKind.BOOLEAN if word.casefold() in {"true", "false"}:
            return word.casefold() == "true"
        case _:
            return text
