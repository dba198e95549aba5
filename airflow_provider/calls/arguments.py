"""The arguments of operators and notifiers: those that are fields, and what rendering may have made of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any, cast

from voiceflow_worker import CallFlow, InvalidInputError
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.model.text.json_text import read_strict_json

Init = Callable[..., None]


def taking(of: Of, *, without: Collection[str] = (), **defaults: object) -> Callable[[Init], Init]:
    """Let the constructor of an operator or a notifier take the fields of this kind too, as keywords.

    They become attributes of the operator, None by default, and `fields_given` has their names.
    """
    names = [name for name in fields_of(of) if name not in without]

    def with_fields(init: Init) -> Init:
        @wraps(init)
        def construct(self: Any, **kwargs: Any) -> None:
            self.fields_given = tuple(names)
            for name in names:
                setattr(self, name, kwargs.pop(name, defaults.get(name)))
            init(self, **kwargs)

        own = inspect.signature(init)
        kind = inspect.Parameter.KEYWORD_ONLY
        others = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        rest = [*own.parameters.values()][len(others) :]
        taken = [
            inspect.Parameter(name, kind, default=defaults.get(name)) for name in names if name not in own.parameters
        ]
        # Airflow reads the arguments of an operator, such as those of `partial`, from the signature of its constructor.
        construct.__signature__ = own.replace(parameters=[*others, *taken, *rest])  # type: ignore[attr-defined]
        return construct

    return with_fields


_NONE = re.compile(r"(?<!\w)None(?!\w|\s+of\b)")
"""The word None, as Python writes a missing value. `None of` may begin a sentence."""


def has_none(text: str) -> bool:
    """Return whether a text has the word None."""
    return _NONE.search(text) is not None


def refuse_number(name: str, value: object) -> None:
    """Raise InvalidInputError for a number where a text is expected, alone, in a list, or in a list of lists."""
    for each in cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,):
        if isinstance(each, list | tuple):
            refuse_number(name, cast("object", each))
        elif isinstance(each, int | float):
            raise InvalidInputError(
                f"{name} is {each!r}, a number and not a text: with render_template_as_native_obj every text of "
                "digits becomes a number, which has lost its plus and cannot be read with certainty. Put quotes around "
                "what the text has, as in \"'{{ params.number }}'\" and \"'+4722334455'\""
            )


def refuse_none(name: str, value: object) -> None:
    """Raise InvalidInputError if a text, or a text anywhere in a body, has the word None: a value was missing there."""
    if isinstance(value, str):
        if has_none(value):
            raise InvalidInputError(
                f"{name} is {value[:200]!r}: a template has rendered a missing value to None. Give the value, "
                "or a default ({{ name or 'customer' }}); if the word is meant, write it as none"
            )
    elif isinstance(value, Mapping):
        for key, inner in cast("Mapping[object, object]", value).items():
            refuse_none(f"{name}.{key}", inner)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for place, inner in enumerate(cast("Sequence[object]", value)):
            refuse_none(f"{name}[{place}]", inner)


def read_flow(flow: object) -> object:
    """The 8x8 body of a CallFlow, or of a JSON text. Raises InvalidInputError."""
    if isinstance(flow, CallFlow):
        return flow.to_body()
    if not isinstance(flow, str):
        return flow
    try:
        return read_strict_json(flow)
    except ValueError as error:
        raise InvalidInputError(f"flow is not JSON: {error}") from None
