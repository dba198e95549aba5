"""Checks of audio files over the network: type, size and reachability."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import anyio
import httpx

from voiceflow_worker.finding import Finding, Severity

LARGEST = 5120 * 1024
"""The size in bytes from which on 8x8 refuses a file. Its guide says both 5 MB and 5120 KB."""

AT_ONCE = 8
NOT_DOWNLOADED = -2006
"""The code of a session that ended because 8x8 could not download a file."""

_AUDIO = frozenset(
    {
        "audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave",
        "audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mp3",
    }
)  # fmt: skip
PARTIAL_CONTENT = 206
_TIMEOUT = httpx.Timeout(10)


async def look_at(urls: Mapping[str, int], *, file: str) -> list[Finding]:
    """The problems of the audio files at these URLs. `urls` maps each URL to its line in `file`."""
    found: dict[str, list[tuple[Severity, str]]] = {}
    turns = anyio.CapacityLimiter(AT_ONCE)

    async def look(client: httpx.AsyncClient, url: str) -> None:
        async with turns:
            found[url] = [each async for each in _problems(client, url)]

    async with httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=True) as client, anyio.create_task_group() as group:
        for url in urls:
            group.start_soon(look, client, url)
    return [
        Finding(file=file, row=row, path=None, code=NOT_DOWNLOADED, severity=severity, message=f"{url} {message}")
        for url, row in urls.items()
        for severity, message in found[url]
    ]


async def _problems(client: httpx.AsyncClient, url: str) -> AsyncIterator[tuple[Severity, str]]:
    try:
        # Not HEAD: many servers sign URLs only for GET.
        async with client.stream("GET", url, headers={"Range": "bytes=0-15"}) as answer:
            if not answer.is_success:
                yield Severity.ERROR, f"answers {answer.status_code} {answer.reason_phrase}: 8x8 cannot download it"
                return
            size, beginning = await _measured(answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Severity.ERROR, f"cannot be downloaded: {str(error) or type(error).__name__}"
        return
    if size >= LARGEST:
        yield Severity.ERROR, f"has {size / 1024:.0f} KB; 8x8 plays only files under {LARGEST // 1024} KB"
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _is_wav_or_mp3(beginning):
        yield Severity.ERROR, f"is neither wav nor mp3 (Content-Type: {content_type or 'none'})"
    elif content_type not in _AUDIO:
        yield Severity.WARNING, f"has Content-Type: {content_type or 'none'}; audio/wav or audio/mpeg is safer"


async def _measured(answer: httpx.Response) -> tuple[int, bytes]:
    """The size of the file, and its first bytes. If no size is stated, received bytes are counted, up to LARGEST."""
    _, _, total = answer.headers.get("content-range", "").rpartition("/")
    stated = total if answer.status_code == PARTIAL_CONTENT else answer.headers.get("content-length", "")
    beginning, count = b"", 0
    async for chunk in answer.aiter_raw():
        beginning = (beginning + chunk)[:16]
        count += len(chunk)
        if (stated.isdigit() and len(beginning) == 16) or count >= LARGEST:
            break
    return (int(stated) if stated.isdigit() else count), beginning


def _is_wav_or_mp3(beginning: bytes) -> bool:
    is_wav = beginning[:4] == b"RIFF" and beginning[8:12] == b"WAVE"
    # An mp3 file begins with an ID3 tag, or with a frame of MPEG audio, whose first eleven bits are set.
    is_mp3 = beginning[:3] == b"ID3" or (len(beginning) > 1 and beginning[0] == 0xFF and beginning[1] & 0xE0 == 0xE0)
    return is_wav or is_mp3
