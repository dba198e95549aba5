"""Bodies made from real ones by chance: every kind of damage that a sender, a proxy or an enemy can do to them.

Made by `random.Random` from a seed, so that one seed is one body for ever; hypothesis chooses the seeds.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

from tests.webhooks.payload_forms import FORMS, Call
from tests.webhooks.receiving import other

Json = Any
CONTENT_TYPES = [
    "application/json", "application/json; charset=utf-16", "text/plain", "text/xml", "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded", "application/octet-stream", "nonsense", "",
]  # fmt: skip
OTHERS = [
    other("CALL_ACTION", callStatus="ACTION_COMPLETED", eventData={"dtmf": "1"}, sipCode=200, clientActionId="main"),
    other("CALL_ACTION", callStatus="CALL_RECEIVED", eventData={"dtmf": None}, callDirection="INBOUND"),
    other("CALL_STATUS", callStatus="RINGING", timestamp="2026-07-01T09:00:00Z", callId="c", sipCode=180),
    other("CALL_RECORDING_STATUS", recordingId="r", status="UPLOAD_COMPLETED", durationSeconds=12, filePath="/a.wav"),
    other("VIRTUAL_NUMBER_UPDATE", virtualNumbers=[{"msisdn": "6531234567"}], totalNumbers=1),
    {"namespace": "SMS", "eventType": "DLR", "payload": {"umid": "x"}},
    {"namespace": "VOICE", "eventType": "SOMETHING_NEW", "payload": {"a": 1}},
]


def body(random: Random, calls: Sequence[Call]) -> tuple[bytes, str]:
    """A body and its content type."""
    event = _event(random, calls)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 6))):
        _damage(random, event)
    content = _written(random, event)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        content = random.choice(_BYTES)(random, content)
    return content, random.choice(CONTENT_TYPES)


def _event(random: Random, calls: Sequence[Call]) -> Json:
    kind = random.random()
    if kind < 0.05:
        return _any_json(random, 3)
    if kind < 0.25:
        return deepcopy(random.choice(OTHERS))
    return random.choice(FORMS).event(random.choice(calls))


def _damage(random: Random, event: Json) -> None:
    """Change one value or one name somewhere."""
    within, key = _place(random, event)
    if within is None:
        return
    match random.randrange(6):
        case 0:
            del within[key]
        case 1 if isinstance(within, dict):
            within[_text(random)] = within.pop(key)
        case 2 if isinstance(within, dict):
            within[random.choice((str(key).upper(), f"_{key}", f"{key} "))] = _any_json(random, 1)
        case 3:
            within[key] = [within[key]] if random.random() < 0.5 else {"value": within[key]}
        case 4:
            within[key] = _deep(random, within[key])
        case _:
            within[key] = _any_json(random, 2)


def _place(random: Random, value: Json) -> tuple[Any, Any]:
    places: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        within = left.pop()
        items = within.items() if isinstance(within, dict) else enumerate(within) if isinstance(within, list) else ()
        for key, item in items:
            places.append((within, key))
            left.append(item)
    return random.choice(places) if places else (None, None)


def _deep(random: Random, value: Json) -> Json:
    for _ in range(random.choice((5, 50, 400))):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def _any_json(random: Random, depth: int) -> Json:
    match random.randrange(12 if depth else 9):
        case 0:
            return None
        case 1:
            return random.choice((True, False))
        case 2:
            return random.choice((0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**19, 10**400, -(10**30)))
        case 3:
            return random.choice((0.0, -0.5, 1e-300, 1e300, 4.2, 1711346490.5))
        case 4:
            return random.choice(
                ("", "null", "Null", "None", "0", "-1", "1e999", "NaN", "2024-02-30", "9999-12-31T23:59:59Z")
            )
        case 5:
            return random.choice(
                ("COMPLETED", "BUSY", "SOMETHING", "SESSION_SUMMARY", "CALL_STATUS", "VOICE", "ANSWERED")
            )
        case 6 | 7 | 8:
            return _text(random)
        case 9:
            return [_any_json(random, depth - 1) for _ in range(random.randrange(4))]
        case _:
            return {_text(random): _any_json(random, depth - 1) for _ in range(random.randrange(4))}


def _text(random: Random) -> str:
    match random.randrange(20):
        case 0:
            return random.choice(("\x00", "a\x00b", "\ud800", "\udfffx", "x\ud83d", "\ufeff", "\u202e", "\uffff"))
        case 1:
            return "x" * random.choice((201, 5_000, 70_000))
        case 2:
            return random.choice(("/", "%00", "../..", "a|b", "*", "{}", "'; --", "\\", '"', "\n", "\t", " "))
        case _:
            return "".join(random.choice("aZ0\u00e9\u4e2d\U0001f600 -_.{}") for _ in range(random.randrange(9)))


def _written(random: Random, event: Json) -> bytes:
    text = json.dumps(event, ensure_ascii=random.random() < 0.8, indent=random.choice((None, None, 2)))
    if random.random() < 0.03:
        text = text.replace(":", ': NaN, "x":', 1)
    if random.random() < 0.1 and isinstance(event, dict):
        # The same name twice: RFC 8259 §4 leaves open what that means.
        name = json.dumps(random.choice([*event, "payload", "eventType"]))
        text = f"{text.rstrip()[:-1]}, {name}: {json.dumps(_any_json(random, 1))}}}"
    encoding = random.choice(("utf-8",) * 12 + ("utf-16", "utf-16-le", "utf-32", "latin-1"))
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _flipped(random: Random, content: bytes) -> bytes:
    if not content:
        return b""
    place = random.randrange(len(content))
    return content[:place] + bytes((random.randrange(256),)) + content[place + 1 :]


def _with_more(random: Random, content: bytes) -> bytes:
    return content + random.choice((b"}", b"\x00", b"\n\n", content[:50], b"]" * 1000))


def _twice(_random: Random, content: bytes) -> bytes:
    return content + content


def _zipped(random: Random, content: bytes) -> bytes:
    return gzip.compress(content, 1) if random.random() < 0.5 else zlib.compress(content, 1)


def _marked(_random: Random, content: bytes) -> bytes:
    return b"\xef\xbb\xbf" + content


def _nested(random: Random, _content: bytes) -> bytes:
    depth = random.choice((900, 1100, 100_000))
    return random.choice((b"[", b'{"payload":')) * depth + random.choice((b"", b"]" * depth))


def _huge(random: Random, content: bytes) -> bytes:
    """A text of a megabyte, or a number of thousands of digits, where there was a small one."""
    match random.randrange(3):
        case 0:
            return content.replace(b'"COMPLETED"', b'"' + b"y" * 900_000 + b'"', 1)
        case 1:
            return content.replace(b": 1", b": 1" + b"0" * random.choice((30, 400, 9_000)), 1)
        case _:
            return b"x" * random.choice((999_999, 1_000_001))


def _form(_random: Random, content: bytes) -> bytes:
    return b"payload=" + content


_BYTES: Sequence[Callable[[Random, bytes], bytes]] = [
    *(_cut, _cut, _cut, _cut, _flipped, _flipped, _flipped, _flipped, _flipped, _flipped),
    *(_with_more, _with_more, _twice, _zipped, _marked, _form, _nested, _huge),
]  # fmt: skip
