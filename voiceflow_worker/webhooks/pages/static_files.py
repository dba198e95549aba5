"""The style sheet, the script and the icon of the pages. They contain no data, so anybody may read them."""

from __future__ import annotations

from hashlib import sha256
from importlib import resources

from starlette.responses import Response

FOLDER = "static"
_KINDS = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class StaticFiles:
    """The static files, read once. `version` changes with their contents. Browsers cache addresses with a version."""

    def __init__(self) -> None:
        # Read now, because later no file descriptor may be left.
        place = resources.files("voiceflow_worker.webhooks.pages").joinpath(FOLDER)
        self._files = {name: place.joinpath(name).read_bytes() for name in _KINDS}
        self.version: str = sha256(b"".join(self._files.values())).hexdigest()[:12]

    def answer(self, name: str, *, version: str | None) -> Response | None:
        """The response with the file of this name; None if there is no such file.

        Browsers may keep it for a year if `version` is the current version; otherwise they ask again each time.
        """
        if name not in _KINDS:
            return None
        kept = "public, max-age=31536000, immutable" if version == self.version else "no-cache"
        return Response(self._files[name], headers={"Content-Type": _KINDS[name], "Cache-Control": kept})
