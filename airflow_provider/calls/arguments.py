"""The arguments of operators and notifiers that are fields of a call, a campaign or an escalation."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of

Init = Callable[..., None]


def with_fields(of: Of, *, without: Collection[str] = ()) -> Callable[[Init], Init]:
    """Let a constructor take the fields of this kind as keywords: attributes, whose names are `field_names`."""
    names = [name for name in fields_of(of) if name not in without]

    def decorate(init: Init) -> Init:
        @wraps(init)
        def construct(self: Any, **kwargs: Any) -> None:
            self.field_names = tuple(names)
            for name in names:
                setattr(self, name, kwargs.pop(name, None))
            init(self, **kwargs)

        own = [each for each in signature(init).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        fields = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in names]
        rest = [each for each in signature(init).parameters.values() if each not in own]
        # Airflow reads the arguments of an operator, such as those of `partial`, from the signature of its constructor.
        construct.__signature__ = signature(init).replace(parameters=[*own, *fields, *rest])  # type: ignore[attr-defined]
        return construct

    return decorate
