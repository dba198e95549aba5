"""One more field, `caller_name`, that a process of tests defines before it imports what follows from the fields."""

from __future__ import annotations

from voiceflow_worker.campaigns import fields
from voiceflow_worker.campaigns.reading import Field, Group, Of, Reading, text_of


def read(value: object, _: Reading) -> str:
    return text_of(value)


def define() -> None:
    """Define the field."""
    new = Field(
        name="caller_name", read=read, of=frozenset(Of), group=Group.WHO, schema=fields.TEXT, metavar="NAME",
        label="Name of the caller", help="The name that phones show.",
    )  # fmt: skip
    fields.FIELDS += (new,)
