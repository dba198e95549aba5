"""Call flows made by a seed: every action, every parameter, up to its limits; and such as break one rule each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeAlias

from voiceflow_worker.model.flows.validity import write_valid_until

Json: TypeAlias = dict[str, Any]

SOURCES = ("+6531234567", "6531234568")
VOICES = ("en-IE-EmilyNeural", "en-US-JennyNeural", "zh-CN-XiaoxiaoNeural")
_WORDS = ("order", "ready", "你好", "sí", "ครับ", "é", "«", "\U0001f600", "&", '"', "1,000", "\n", "\t")
_SPEEDS: Sequence[float] = (0.5, 1, 1.0, 1.25, 2, 2.0)


def request(dice: Random, place: int) -> Json:
    """A body that the service accepts; `place` makes its destination one of its own."""
    plus = dice.choice(("", "+"))
    flow = [_call(dice, f"{plus}65{80000000 + place}")]
    flow += [_action(dice) for _ in range(dice.choice((0, 1, 1, 2, 3, 6)))]
    if dice.random() < 0.2:
        flow.insert(dice.randint(1, len(flow)), _call(dice, f"+65{90000000 + place}"))
    if dice.random() < 0.6:
        flow.append(_hangup(dice))
    body: Json = {"callflow": flow}
    if dice.random() < 0.5:
        body["validUntil"] = write_valid_until(datetime.now(UTC) + timedelta(hours=dice.randint(1, 48)))
    if dice.random() < 0.5:
        body["clientRequestId"] = "".join(dice.choices("abc.-0123456789", k=dice.choice((1, 12, 50))))
    if dice.random() < 0.3:
        body["clientBatchId"] = "b" * dice.choice((1, 50))
    return body


def reply(dice: Random) -> Json:
    """An answer to a call action event. Half of them end the call, so that every call ends."""
    flow = [_action(dice) for _ in range(dice.choice((0, 1, 2)))]
    if dice.random() < 0.3:
        call = _call(dice, f"+65{91000000 + dice.randint(0, 99999)}")
        call["params"]["callRecording"] = dice.choice((True, False, None))
        flow.append(call)
    if not flow or dice.random() < 0.5:
        flow = [step for step in flow if step["action"] != "sayAndCapture"] + [_hangup(dice)]
    body: Json = {"callflow": flow}
    if dice.random() < 0.5:
        body["clientActionId"] = f"place-{dice.randint(0, 9)}"
    return body


def broken(dice: Random, place: int) -> tuple[int, Json]:
    """A body that the service refuses, and the code that it refuses it with."""
    body: Json = {"callflow": [_call(dice, f"+65{80000000 + place}"), _say(dice), {"action": "hangup"}]}
    flow: list[Json] = body["callflow"]
    match code := dice.choice((-1003, -1005, -1006, -1007, -1008, -1009, -1010, -1011, -1012, -1013, -1015, -1017)):
        case -1003:
            flow[1] = _capture(dice, minDigits=2, maxDigits=None, completeOnHash=True)
        case -1005:
            flow[1] = _capture(dice, digitTimeout=100, overallTimeout=None)
        case -1006:
            flow[1] = _capture(dice, digitTimeout=2000, overallTimeout=1999)
        case -1007:
            flow[1]["action"] = dice.choice(("dance", "Say", ""))
        case -1008:
            flow[1] = _capture(dice, minDigits=None, maxDigits=dice.choice((None, 0)), completeOnHash=False)
        case -1009:
            _break_field(dice, flow)
        case -1010:
            flow[1:1] = [_call(dice, "+6587654321"), _call(dice, "+6587654322")]
        case -1011:
            flow[0]["params"]["destination"] = ["+6587654321", "+6587654322"]
        case -1012:
            flow.insert(1, {"action": "hangup"})
        case -1013:
            del flow[0]
        case -1015:
            body["validUntil"] = "2020-01-01T00:00:00.000Z"
        case _:
            flow[0]["params"]["destination"] = dice.choice(("nobody", "+0", "123456", "+" + "1" * 16))
    return code, body


def _break_field(dice: Random, flow: list[Json]) -> None:
    said = flow[1]["params"]
    name, value = dice.choice(
        (
            ("text", None),
            ("text", 7),
            ("text", "x" * 3001),
            ("voiceProfile", None),
            ("repetition", 0),
            ("repetition", 4),
            ("speed", 0.4),
            ("speed", 2.1),
            ("speed", "1"),
            ("repetition", 1.5),
        )
    )
    said[name] = value


def _call(dice: Random, destination: str) -> Json:
    return {"action": "makeCall", "params": {"source": dice.choice(SOURCES), "destination": destination}}


def _hangup(dice: Random) -> Json:
    return dice.choice(({"action": "hangup"}, {"action": "hangup", "params": {}}, {"action": "hangup", "params": None}))


def _action(dice: Random) -> Json:
    return dice.choice((_say, _say, _play, _capture))(dice)


def _say(dice: Random) -> Json:
    params = {"text": _text(dice), "voiceProfile": dice.choice(VOICES), **_some(dice, repetition=_times, speed=_speed)}
    return {"action": "say", "params": params}


def _play(dice: Random) -> Json:
    url = dice.choice(("https", "http", "HTTPS")) + "://files.example.com/" + dice.choice(("a.wav", "b.mp3", "c?d=e"))
    return {"action": "playFile", "params": {"fileUrl": url, **_some(dice, repetition=_times)}}


def _capture(dice: Random, **fixed: object) -> Json:
    most, overall = dice.randint(1, 25), dice.choice((0, 1, 5000, 30000, 30000.0))
    params: Json = {"promptMessage": _text(dice), "voiceProfile": dice.choice(VOICES), **_some(
        dice,
        successMessage=_text, failureMessage=_text, speed=_speed, repetition=_times,
        noOfTries=lambda dice: dice.randint(1, 3),
    )}  # fmt: skip
    if dice.random() < 0.8:
        params |= {
            "maxDigits": most,
            **_some(dice, minDigits=lambda dice: dice.randint(0, most), completeOnHash=_either),
        }
    if dice.random() < 0.8:
        params |= {"overallTimeout": overall}
        params |= _some(dice, digitTimeout=lambda dice: dice.choice((0, overall)))
    return {"action": "sayAndCapture", "params": params | fixed}


def _some(dice: Random, **makers: Any) -> Json:
    """Some of these parameters; some of them null, which is as good as absent."""
    chosen = {name: make(dice) for name, make in makers.items() if dice.random() < 0.6}
    return {name: None if dice.random() < 0.1 else value for name, value in chosen.items()}


def _text(dice: Random) -> str:
    if dice.random() < 0.05:
        return "x" * 3000
    return "a" + " ".join(dice.choices(_WORDS, k=dice.choice((1, 3, 20))))


def _times(dice: Random) -> float:
    return dice.choice((1, 2, 3, 3.0))


def _speed(dice: Random) -> float:
    return dice.choice(_SPEEDS)


def _either(dice: Random) -> bool:
    return dice.choice((True, False))
