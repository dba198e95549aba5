"""The reasons for which calls wait, as workers write them and `status` counts them."""

from __future__ import annotations

BUSY = "is busy with another call"
"""A part of the reason of every call that waits because its number, or that of its second party, is busy."""
CAPPED = "the most for one person"
"""A part of the reason of every call that waits because its person has had all allowed attempts."""
OUTSIDE_WINDOW = "waits for its calling window to open"
"""The reason of every call that waits until its calling window opens."""
