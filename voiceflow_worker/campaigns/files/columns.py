"""The columns of a campaign: reserved names, the reading of headers, and suggestions for misspelled names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from voiceflow_worker.model.text.names import folded

DESTINATION = "destination"
REASON = "reason"
"""The first column of a rejects file. It is never a template variable, so a corrected file can be read again."""

RESERVED = (
    "source", "unique_key", "batch_id", "voice_profile", "language", "time_zone", "not_before", "valid_until",
    "priority",
)  # fmt: skip
_KNOWN = frozenset({DESTINATION, REASON, *RESERVED})

# Other names that people give to the column destination.
_NUMBER_COLUMNS = (
    "phone", "phone_number", "phonenumber", "phone_no", "number", "mobile", "mobile_number", "mobile_no", "msisdn",
    "tel", "telephone", "cell", "cellphone", "handphone", "contact", "contact_number", "to", "recipient", "callee",
)  # fmt: skip


def canonical_name(name: str) -> str:
    """The reserved name that a header cell stands for, else the trimmed text of the cell."""
    short = folded(name)
    return short if short in _KNOWN else name.strip()


def row_name(name: str) -> str:
    """The name of a column in the dictionary of a row: folded, `first_name` for `First Name`."""
    return folded(name) or name.strip()


def header_problem(names: Sequence[str]) -> str | None:
    """The reason why a header cannot be used, as a clause; None if it can be used. `names` are canonical names."""
    present = [name for name in names if name]
    shown = ", ".join(present) or "nothing"
    if DESTINATION not in present:
        if any(sum(map(str.isdigit, name)) >= 7 for name in present):
            return (
                "begins with a line that looks like data; add a header line above it that names the columns, including "
                f"destination; found: {shown}"
            )
        hint = near_destination(present)
        rename = f"; rename {hint!r} to destination" if hint else "; rename the column of phone numbers to destination"
        return f"has no column destination{rename}; columns found: {shown}"
    # The reason of a rejects file may stand before the file's own column of that name. Both are left out.
    twice = [name for name, count in Counter(map(folded, present)).items() if count > 1 and name != REASON]
    if twice:
        return f"has two columns of the same name: {', '.join(twice)}; rename or remove one; columns found: {shown}"
    return None


def near_destination(names: Iterable[str]) -> str | None:
    """The column that most likely holds the numbers to call, if there is one."""
    by_folded = {folded(name): name for name in names}
    for guess in _NUMBER_COLUMNS:
        if guess in by_folded:
            return by_folded[guess]
    close = get_close_matches(DESTINATION, by_folded, n=1, cutoff=0.7)
    return by_folded[close[0]] if close else next((by_folded[n] for n in by_folded if "phone" in n), None)
