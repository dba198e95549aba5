"""Request bodies and answers of menus as the 8x8 guides print them."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]

CALL: Body = {"action": "makeCall", "params": {"source": "6512341234", "destination": "6512345678"}}
SAY: Body = {
    "action": "say",
    "params": {
        "text": "Hello, this is a test Voice Message.",
        "voiceProfile": "en-IE-EmilyNeural",
        "repetition": 1,
        "speed": 1,
    },
}
PLAY: Body = {
    "action": "playFile",
    "params": {"fileUrl": "https://sample-videos.com/audio/mp3/wave.mp3", "repetition": 2},
}
HANGUP: Body = {"action": "hangup"}
SIMPLE_MENU: Body = {
    "action": "sayAndCapture",
    "params": {
        "promptMessage": "If you have resolved your issue already, press one. Or press two to speak to an agent.",
        "voiceProfile": "en-US-BenjaminRUS",
        "repetition": 1,
        "speed": 1,
        "minDigits": 1,
        "maxDigits": 1,
        "digitTimeout": 10000,
        "overallTimeout": 10000,
        "completeOnHash": False,
        "noOfTries": 2,
        "successMessage": None,
        "failureMessage": "Invalid input, please try again",
    },
}
FULL_MENU: Body = {
    "action": "sayAndCapture",
    "params": {
        "promptMessage": "Enter 1 if you would like to talk",
        "successMessage": "Thank you, have a nice day!",
        "failureMessage": "Invalid input received.",
        "voiceProfile": "en-US-BenjaminRUS",
        "speed": 1.0,
        "completeOnHash": True,
        "minDigits": 2,
        "maxDigits": 2,
        "digitTimeout": 10000,
        "overallTimeout": 10000,
        "noOfTries": 3,
    },
}
BRIDGE: Body = {
    "action": "makeCall",
    "params": {"source": "+65123456789", "destination": "+6543212345", "callRecording": True},
}

REQUESTS: dict[str, Body] = {
    "voice messaging, speech": {"callflow": [CALL, SAY, HANGUP]},
    "voice messaging, file": {"callflow": [CALL, PLAY, HANGUP]},
    "voice messaging, valid until": {"validUntil": "2024-07-03T05:59:32.226Z", "callflow": [CALL, SAY, HANGUP]},
    "simple menu": {"callflow": [CALL, SIMPLE_MENU]},
    "correlation ids": {
        "clientRequestId": "order-4821-reminder",
        "clientBatchId": "reminders",
        "callflow": [{"action": "makeCall", "params": {"source": "+6588000000", "destination": "+6590000000"}}],
    },
    "two calls": {"callflow": [CALL, CALL]},
}
ANSWERS: dict[str, Body] = {
    "bridge": {"clientActionId": "ivr1_level2", "callflow": [BRIDGE]},
    "say": {
        "clientActionId": "NumberMaskingId1",
        "callflow": [
            {
                "action": "say",
                "params": {
                    "text": "Hello This is a test message",
                    "voiceProfile": "en-US-ZiraRUS",
                    "repetition": 1,
                    "speed": 1.0,
                },
            },
            HANGUP,
        ],
    },
    "menu": {"clientActionId": "ivr1_level2", "callflow": [FULL_MENU]},
    "menu without an id": {"callflow": [SIMPLE_MENU]},
    "file": {"clientActionId": "ivr1_level2", "callflow": [PLAY]},
    "hangup": {"callflow": [HANGUP]},
}
