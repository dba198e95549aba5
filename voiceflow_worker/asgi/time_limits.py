"""The time limits of all that a receiver serves. `docs/deploy/README.md` has them as a table, for proxies too."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

CONNECTION: Final = timedelta(seconds=75)
"""How long a connection without a request is kept after an answer: longer than proxies and senders keep theirs (60 s,
as a rule). Whoever sends an event on a connection that is closed in this moment has lost it."""
HEAD: Final = timedelta(seconds=10)
"""The headers of a request end within it, or their connection is ended."""
BODY: Final = timedelta(seconds=10)
"""The body of an event, or of a request to /v1, arrives within it."""
UPLOAD: Final = timedelta(seconds=60)
"""An uploaded file arrives within it."""
EVENT: Final = timedelta(seconds=4)
"""An event is stored and answered within it, or answered with 503."""
KEY_PRESS: Final = timedelta(seconds=10)
"""A key press in a menu is answered within it."""
PAGE: Final = timedelta(seconds=10)
"""A page of the console is read within it."""
ACTION: Final = timedelta(seconds=60)
"""An action in the console, and the question before it."""
WAIT: Final = timedelta(seconds=60)
"""The longest `?wait=` of /v1."""
WORK: Final = timedelta(minutes=10)
"""A campaign is previewed or started, or a report is exported, within it: a million calls take some minutes."""
