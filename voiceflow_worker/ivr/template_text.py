"""A text of a call flow template, compiled once and rendered for each row.

A text has names, filters and conditions, in the syntax of Jinja. Loops, calculations and calls are refused before
anything is compiled, so that the size of a text and of its values bounds what it costs to fill it in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from voiceflow_worker.finding import message_of, tell
from voiceflow_worker.ivr.speech_filters import (
    VOICE,
    ZONE,
    FilterError,
    SpecimenText,
    guarded,
    speech_filters,
    unknown_filter,
    with_decimal_sign,
)
from voiceflow_worker.model.flows.actions import Param, ParamKind
from voiceflow_worker.model.flows.values import (
    DECIMAL,
    WHOLE,
    Decimals,
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
_ONLY = re.compile(r"\s*\{\{\s*([^\W\d]\w*)\s*\}\}\s*")
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_NO_PART = re.compile(r"has no (?:attribute|element) '?(\w+)")
_MIXED = re.compile("can only concatenate|not supported between|unsupported operand|bad operand")
LONGEST = 10_000
"""The largest number of characters in a text, in a value that it speaks, and in what it becomes. 8x8 speaks 3000."""
_MOST_PARTS, _DEEPEST = 1000, 30
"""The largest number of parts (names, filters, conditions, constants) of a text, and how deep they may be nested."""
_FILTERS = ("capitalize", "first", "float", "int", "last", "length", "lower", "trim", "upper")
"""The filters of Jinja that a text may have: none makes a text much longer, or takes long."""
_TESTS = ("defined", "in", "none", "undefined")
_NUMBERED = re.compile(r"\{\{-?\s*(\d{1,3})\s*-?\}\}")
_CURLY = re.compile("[\u2018-\u201f\u2039\u203a«»]")
_LONE = re.compile(r"(?:\$?\{!?|[｛{]?｛)\s*([^\W\d][^{}｛｝]*)(?:\}|[}｝]+)")  # noqa: RUF001 - of full width
# What is not closed goes to the end: to look for an end from each of its brackets would take the square of its size.
_PIECE = re.compile(r"\{\{.*?(?:\}\}|\Z)|\{%.*?(?:%\}|\Z)", re.DOTALL)


_COMPARED = "as a comparison reads it"
"""The filter of the values in comparisons. No text can write it: its name has spaces."""


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """Why a text of the template could not be filled in for a row. `column` is the column at fault, if any.

    `is_missing` is True if the column has no value, or does not exist.
    """

    path: str
    column: str | None
    message: str
    is_missing: bool = False


class UnfitValueError(ValueError):
    """Raised when a text cannot be filled in, because values are missing or unfit. `problems` are the reasons."""

    def __init__(self, *problems: TemplateProblem) -> None:
        self.problems = problems
        super().__init__("; ".join(each.message for each in problems))


class TemplateSyntaxProblemError(ValueError):
    """Raised when a text of a template cannot be compiled. `path` says where in the body the text is."""

    def __init__(self, message: str, *, path: str) -> None:
        self.path = path
        super().__init__(message)


def is_template(text: str) -> bool:
    """True if a text contains Jinja syntax."""
    return "{{" in text or "{%" in text or "{#" in text


def require_filled_in(text: str, *, path: str = "") -> None:
    """Raise TemplateSyntaxProblemError if a text to speak has a name in single brackets, which nothing fills in.

    It does so too for a text that is too long to be spoken, before it looks for names.
    """
    if len(text) > LONGEST:
        raise TemplateSyntaxProblemError(_too_long(text), path=path)
    outside = _PIECE.sub("", text)
    if number := _NUMBERED.search(text):
        raise TemplateSyntaxProblemError(
            f"cannot be read as a template: {number[0]} would be spoken as {number[1]}; write the name of a column, "
            f"such as {{{{name}}}}, or {{{{_{number[1]}}}}} for a column {number[1]}",
            path=path,
        )
    if lone := _LONE.search(outside):
        inner = lone[1].strip()
        raise TemplateSyntaxProblemError(
            f"cannot be read as a template: {lone[0]} would be spoken as it stands; write {{{{{inner}}}}} for a value",
            path=path,
        )


class TemplateText:
    """A text with variables, at `path` of the body. `voice` is the voiceProfile beside it, if any.

    Raises TemplateSyntaxProblemError if the text cannot be compiled.
    """

    def __init__(self, text: str, *, path: str, param: Param | None, voice: str | None = None) -> None:
        from jinja2 import meta

        self.text = text
        self.path = path
        try:
            tree = _parsed(text)
            self.variables: frozenset[str] = frozenset(meta.find_undeclared_variables(tree))
            _check_conditions(tree)
            _read_comparisons(tree)
            self._filtered = _filtered(tree)
            self._parts = _parts_of(tree)
            self.is_joined: bool = bool(self._parts)
            """Whether it has names alone between its words."""
            self._template = _environment().from_string(tree)
        except ValueError as error:
            raise TemplateSyntaxProblemError(f"cannot be read as a template: {error}", path=path) from None
        self._param = param
        self._voice = voice
        only = _ONLY.fullmatch(text)
        self.only: str | None = only[1] if only else None
        self.is_optional: bool = param is not None and not param.required and self.only is not None
        self._kind = param.kind if param is not None else None
        self.is_spoken: bool = self._kind is ParamKind.SPEECH

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TemplateText, path=self.path, param=self._param, voice=self._voice), (self.text,)

    def read_by(self, *filters: str) -> frozenset[str]:
        """The variables to which these filters are applied."""
        return frozenset[str]().union(*(self._filtered.get(each, frozenset()) for each in filters))

    @property
    def filtered(self) -> frozenset[str]:
        """The variables to which filters are applied."""
        return frozenset[str]().union(*(names for each, names in self._filtered.items() if each != _COMPARED))

    def filled(self, values: Mapping[str, object], *, leaves_out_empty: bool = False) -> object:
        """Fill in the text with a row's values, and convert it if its parameter is a number or a boolean.

        For an optional parameter whose text is a single variable that is missing or empty, the result is LEFT_OUT.
        Raises UnfitValueError if values are missing or empty, or if the template fails. With `leaves_out_empty`, a
        plain variable whose value is empty is left out of the text.
        """
        alone = values.get(name_among(values, self.only)) if self.only is not None else None
        if self.is_optional and is_missing(alone):
            return LEFT_OUT
        # A text that is one variable and spaces becomes the value of the variable.
        is_whole = isinstance(alone, str) and not isinstance(alone, Decimals) and not is_missing(alone)
        text = alone if isinstance(alone, str) and is_whole else self._joined(values)
        text = text or self._rendered(values, leaves_out_empty)
        if len(text) > LONGEST:
            long = f"becomes a text of {len(text)} characters, and at most {LONGEST} are spoken; shorten the values"
            raise UnfitValueError(TemplateProblem(self.path, self.alone, long))
        return text if self.is_spoken else _typed(text, self._kind)

    def _joined(self, values: Mapping[str, object]) -> str:
        """The text, if it has names alone and each value is a text that can be spoken; else nothing."""
        parts: list[str] = []
        for is_name, part in self._parts:
            value = values.get(part if part in values else name_among(values, part)) if is_name else part
            if (
                not isinstance(value, str)
                or isinstance(value, Decimals)
                or (is_name and (is_missing(value) or len(value) > LONGEST))
            ):
                return ""
            parts.append(value)
        return "".join(parts)

    def _rendered(self, values: Mapping[str, object], leaves_out_empty: bool) -> str:  # noqa: FBT001
        found: dict[str, TemplateProblem] = {}
        context = self._context(values, found) | {_LEAVES_OUT_EMPTY: leaves_out_empty, _IS_SPOKEN: self.is_spoken}
        # To find all values at fault at once, each is replaced by a stand-in.
        for _ in range(len(self.variables) + 1):
            try:
                text = self._template.render(context)
            except Exception as error:  # noqa: BLE001 (a template may raise anything; only this row is bad)
                problem = self._problem(error, values)
                name = problem.column
                if name is None or name in found:
                    # With a stand-in for another value, an expression may fail that is right.
                    is_own = not found or (name is None and isinstance(error, FilterError))
                    raise UnfitValueError(*found.values(), *([problem] if is_own else [])) from None
                found[name], context[name] = problem, _STAND_IN
            else:
                if not found:
                    return text
                break
        raise UnfitValueError(*found.values())

    def _context(self, values: Mapping[str, object], found: dict[str, TemplateProblem]) -> dict[str, object]:
        """The variables of the template with their values. Values that no text can be made of go to `found`."""
        context: dict[str, object] = {VOICE: self._spoken_by(values), ZONE: values.get(ZONE)}
        for name in self.variables:
            if (key := name_among(values, name)) in values:
                try:
                    context[name] = _shown(values[key], name)
                except UnspeakableError as error:
                    found[name], context[name] = TemplateProblem(self.path, name, message_of(error)), _STAND_IN
        return context

    def _problem(self, error: Exception, values: Mapping[str, object]) -> TemplateProblem:
        """The reason why the text could not be filled in with these values."""
        from jinja2 import UndefinedError

        match error:
            case FilterError():
                return TemplateProblem(self.path, self._column_of(error, values), message_of(error))
            case UnspeakableError():
                return TemplateProblem(self.path, self.alone, message_of(error))
            case UndefinedError() if undefined := _UNDEFINED.search(str(error.message)):
                name = undefined[1]
                kind = "value_empty" if name_among(values, name) in values else "value_missing"
                return TemplateProblem(self.path, name, tell(kind, name=name), is_missing=True)
            case _:
                message = f"cannot be filled in with this row: {_why_it_failed(error)}"
                return TemplateProblem(self.path, self.alone, message)

    @property
    def alone(self) -> str | None:
        """The only variable of the text; None if it has several."""
        return next(iter(self.variables)) if len(self.variables) == 1 else None

    def _column_of(self, error: FilterError, values: Mapping[str, object]) -> str | None:
        """The variable whose value a filter could not use, if it is known."""
        names = self._filtered.get(error.name, frozenset())
        given = {name: values.get(name_among(values, name)) for name in sorted(names)}
        texts = {name: written(value) for name, value in given.items() if not is_missing(value)}
        close = [name for name, text in texts.items() if text == error.value]
        return close[0] if close else next(iter(names)) if len(names) == 1 else self.alone

    def _spoken_by(self, values: Mapping[str, object]) -> object:
        """The voice of the text: the voiceProfile beside it, else the voice of the row or the options."""
        if self._voice is None:
            return values.get("voice_profile")
        named = _ONLY.fullmatch(self._voice)
        return (values.get(name_among(values, named[1])) or values.get("voice_profile")) if named else self._voice


def _parts_of(tree: Template) -> Sequence[tuple[bool, str]]:
    """The parts of a text that has names alone, each with whether it is one; none for other texts."""
    from jinja2 import nodes

    parts: list[tuple[bool, str]] = []
    for output in tree.body:
        for each in output.nodes if isinstance(output, nodes.Output) else [output]:
            if not isinstance(each, nodes.TemplateData | nodes.Name):
                return ()  # Jinja renders it
            parts.append((True, each.name) if isinstance(each, nodes.Name) else (False, each.data))
    return parts


def _filtered(tree: Template) -> Mapping[str, frozenset[str]]:
    """The filters of a text, each with the variables that it is applied to."""
    from jinja2 import nodes

    found: dict[str, frozenset[str]] = {}
    for node in tree.find_all(nodes.Filter):
        found[node.name] = found.get(node.name, frozenset()) | {each.name for each in node.find_all(nodes.Name)}
    return found


def _check_conditions(tree: Template) -> None:
    """Raise ValueError, with a clause, for a condition that is a variable which the text does not speak.

    Its value may be any word for no, and every text is true.
    """
    from jinja2 import nodes

    parts: Mapping[Any, str] = {nodes.If: "test", nodes.CondExpr: "test", nodes.And: "left", nodes.Not: "node"}
    conditions: list[Any] = [getattr(each, parts[type(each)]) for each in tree.find_all(tuple(parts))]
    tested = {id(name) for test in conditions for name in (test, *test.find_all(nodes.Name))}
    outputs = tree.find_all(nodes.Output)
    spoken = frozenset(name.name for each in outputs for name in each.find_all(nodes.Name) if id(name) not in tested)
    while conditions:
        match node := conditions.pop():
            case nodes.And() | nodes.Or():
                conditions += [node.left, node.right]
            case nodes.CondExpr():
                conditions += filter(None, (node.expr1, node.expr2))
            case nodes.Name() | nodes.Getattr() | nodes.Getitem() | nodes.Filter():
                names = {each.name for each in (node, *node.find_all(nodes.Name)) if isinstance(each, nodes.Name)}
                if not names <= spoken:
                    name = min(names - spoken)
                    raise ValueError(
                        f"the condition asks for {name}, which the text does not speak: compare it, such as "
                        f'{{% if {name} == "yes" %}}'
                    )
            case _:
                pass


def _read_comparisons(tree: Template) -> None:
    """Compare texts trimmed and in any case, and values with numbers and true as what these are."""
    from jinja2 import nodes

    for each in tree.find_all(nodes.Compare):
        sides: list[Any] = [each.expr, *(operand.expr for operand in each.ops)]
        constants: list[Any] = [side for side in sides if isinstance(side, nodes.Const)]
        is_among = any(operand.op in {"in", "notin"} for operand in each.ops)
        lists = [isinstance(constant.value, list | tuple) for constant in constants]  # a list of constants is one too
        if (sides[1:] != constants or lists != [True]) if is_among else any(lists):
            continue
        compared: list[object] = [
            value for constant in constants for value in (constant.value if is_among else [constant.value])
        ]
        kinds = {_KINDS.get(type(value), "") for value in compared} or {"either"}
        kind = kinds.pop()
        if kinds or not kind:
            continue
        for constant in constants if kind == "text" else ():
            texts = constant.value
            constant.value = [_in_any_case(text) for text in texts] if is_among else _in_any_case(texts)
        each.expr = _compared(each.expr, kind)
        for operand in each.ops if not is_among else ():
            operand.expr = _compared(operand.expr, kind)


_KINDS: Mapping[type, str] = {bool: "truth", str: "text", int: "number", float: "number"}


def _in_any_case(text: str) -> str:
    return text.strip().casefold()


def _compared(node: Any, kind: str) -> Any:
    from jinja2 import nodes

    return nodes.Filter(node, _COMPARED, [nodes.Const(kind)], [], None, None, lineno=node.lineno)


def _as_compared(value: object, kind: str) -> object:
    """Return a value as a comparison reads it: a "text", a "number", a "truth", or of "either" a number or a text.

    Raises FilterError for a value of another kind.
    """
    from jinja2 import Undefined

    if isinstance(value, Undefined | SpecimenText | bool) or is_list(value) or is_object(value):
        return value
    text = written(value)
    folded = _in_any_case(text)
    if kind == "text":
        return folded
    if kind == "truth":
        if folded in {"true", "false"}:
            return folded == "true"
        why = f"{text[:40]!r} is neither true nor false, which a condition compares it with: write one of them"
        raise FilterError(_COMPARED, text, f"{why}, or compare a text, as in {{% if column == 'yes' %}}")
    if WHOLE.fullmatch(text) or DECIMAL.fullmatch(text):
        return float(text)
    if kind == "either":
        return folded
    said = f"{text[:40]!r} is not a number, which a condition compares it with: write it as 1250.50"
    raise FilterError(_COMPARED, text, f"{said}, or compare a text, as in {{% if column == '1' %}}")


def _parsed(text: str) -> Template:
    """The tree of a text. Raises ValueError, with a clause, for what is no text of names, filters and conditions."""
    if len(text) > LONGEST:
        raise ValueError(f"it {_too_long(text)}")
    try:
        tree = _environment().parse(text)
    except RecursionError:
        raise ValueError(_TOO_MUCH) from None
    except Exception:  # noqa: BLE001 (besides its own errors, Jinja raises those of Python, such as for a long number)
        raise ValueError(_syntax_problem(text)) from None
    _judge(tree)
    return tree


def _too_long(text: str) -> str:
    return f"has {len(text)} characters, and at most {LONGEST} are read; shorten it"


_TOO_MUCH = "it has too many names, filters and conditions, or they are nested too deep; shorten it"


def _judge(tree: Node) -> None:
    """Raise ValueError, with a clause, for a tree that may take long, or has an unknown filter or test."""
    level, count = [tree], 0
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


def _problem_of(node: Node) -> str | None:
    """What is wrong with a part of a text; None if nothing is."""
    from jinja2 import nodes

    known = _environment()
    match node:
        case nodes.Filter() if node.name not in known.filters:
            return unknown_filter(node.name, {name: each for name, each in known.filters.items() if name != _COMPARED})
        case nodes.Test() if node.name not in known.tests:
            return f"there is no test {node.name}; write a comparison, such as {{% if column == 'value' %}}"
        case nodes.Name(name="self"):
            return "a text cannot have the name self; rename the column"
        case nodes.Name(ctx="load") | nodes.Getitem(arg=nodes.Const()) | nodes.Getattr():
            return None
        case nodes.Template() | nodes.Output() | nodes.TemplateData() | nodes.Const() | nodes.List() | nodes.Tuple():
            return None
        case nodes.Filter() | nodes.Keyword() | nodes.Test() | nodes.Concat():
            return None
        case nodes.If() | nodes.CondExpr() | nodes.Compare() | nodes.Operand():
            return None
        case nodes.And() | nodes.Or() | nodes.Not() | nodes.Neg():
            return None
        case nodes.For():
            what = "a loop"
        case nodes.Call():
            what = "a call with ( )"
        case nodes.BinExpr():
            what = f"a calculation with {node.operator}"
        case _:
            what = "another statement or expression"
    return (
        "a text has names such as {{name}}, filters such as {{day|date}} and conditions such as {% if name %}; this "
        f"one has {what}: write what it makes into the file or the data"
    )


def _syntax_problem(text: str) -> str:
    """The reason why a text cannot be read, from the first bad expression in it."""
    from jinja2 import TemplateError

    hint = "write {{ … }} around a name, with _ for spaces and signs, and before a digit: {{_2nd_name}}"
    if text.count("{{") != text.count("}}"):
        return f"a {{{{ or a }}}} is missing; {hint}"
    for piece in _PIECE.findall(text):
        if curly := _CURLY.search(piece):
            return f"{piece} has the curly quote {curly[0]}: write straight ones, as in {{{{ name or 'you' }}}}"
        if piece.startswith("{{"):
            try:
                _environment().parse(piece)
            except (TemplateError, ValueError):
                return f"{piece} is not the name of a column; {hint}"
    return f"a {{% … %}} in it is not complete; {hint}"


def _why_it_failed(error: Exception) -> str:
    """What is wrong with a template that raised this error, and what to do, without the words of Jinja and Python."""
    from jinja2 import UndefinedError

    text = str(error)
    match error:
        case UndefinedError() if part := _NO_PART.search(text):
            return f"a value has no part {part[1]}; correct the name of the part, or write the name of the column alone"
        case TypeError() if _MIXED.search(text):
            return "a text and a number are compared or mixed; write |int or |float after the column"
        case _:
            return "an expression of the template fails with these values; correct or simplify it"


_STAND_IN = SpecimenText("x")


def _shown(value: object, name: str) -> object:
    """The value as a template has it: the text of a cell, `_blank` for what is missing. Raises UnspeakableError."""
    if is_missing(value):
        return _blank()(name=name)
    if is_object(value):
        return {key: _shown(item, name) for key, item in value.items()}
    if is_list(value):
        return [_shown(item, name) for item in value]
    if len(text := value if isinstance(value, SpecimenText) else value_text(value)) > LONGEST:
        raise UnspeakableError(f"has {len(text)} characters, and at most {LONGEST} are spoken; shorten it")
    if isinstance(value, float) and "." in text:
        return Decimals(text)
    return text


_LEAVES_OUT_EMPTY = "leaves out empty"
"""The variable that says whether an empty value is printed as nothing. No template can use it."""
_IS_SPOKEN = "is spoken"
"""The variable that says whether a voice speaks the text, so that numbers have the decimal sign of its language."""


@lru_cache(maxsize=1)
def _blank() -> type[Any]:
    """The type of an empty cell: false in conditions, and replaced by `default` and `or`. To print it is an error."""
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
        text = "" if isinstance(value, blank) and context.get(_LEAVES_OUT_EMPTY) else value_text(value)
        is_number = isinstance(value, float | Decimals) and context.get(_IS_SPOKEN)
        return with_decimal_sign(text, str(context.get(VOICE) or "")) if is_number else text

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
    filters: dict[str, Any] = {name: guarded(name, made.filters[name]) for name in _FILTERS}
    filters |= {name: guarded(name, _certain(made.filters[name])) for name in ("float", "int")}
    filters |= {name: guarded(name, made.filters[name]) for name in ("d", "default")}
    filters |= {"abs": guarded("abs", _absolute), "path_part": guarded("path_part", _path_part)}
    made.filters.clear()
    filters[_COMPARED] = _as_compared
    made.filters.update(filters | speech_filters())
    made.tests = {name: made.tests[name] for name in _TESTS}
    return made


def _path_part(value: object) -> object:
    """A value as one part of the path of an address, whatever letters it has: `/voices/{{name|path_part}}.mp3`."""
    return value if isinstance(value, SpecimenText) else quote(written(value), safe="")


def _absolute(value: object) -> float:
    return abs(float(written(value)))


def _certain(number: Callable[..., object]) -> Callable[..., object]:
    """The filter int or float, with an error for what is not a number. Those of Jinja give 0."""

    def certain(value: object, default: object = None, *more: object, **named: object) -> object:
        found = number(value, 0 if isinstance(value, SpecimenText) else default, *more, **named)
        if found is None:
            raise ValueError
        return found

    return certain


def _typed(text: str, kind: ParamKind | None) -> object:
    """The text converted to the type of its parameter. A text that does not fit is returned unchanged."""
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
