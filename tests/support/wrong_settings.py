"""Settings that are wrong, and the message for each."""

from __future__ import annotations

WRONG = {
    "RATE": "many", "PROXY": "no address", "API_KEY_FILE": "/nowhere/key", "WEBHOOK_SECRET": "a", "SUB_ACCOUNT": "!",
    "WEBHOOK_SECRET_FILE": "/nowhere/else", "RETENTION": "long", "LOG_LEVEL": "loud",
    "REDIAL_ON": "busy,no_answer", "REDIAL_AFTER": "busy=5m", "CA_FILE": "/nowhere/ca.pem",
    "STATE_DIR": "~nobody-has-this-name/x",
}  # fmt: skip
