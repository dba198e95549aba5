"""The arguments of operators and notifiers that are fields, from the definition of the fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of

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
