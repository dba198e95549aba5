"""What the campaign of docs/console.md is made of: its menu, its settings and its prices."""

from __future__ import annotations

from pathlib import Path

MENU = Path(__file__).with_name("delivery.py")
READERS, OPERATORS = "to-look-at-it-and-read", "to-steer-it-and-act"
SETTINGS = f"""\
VOICEFLOW_API_KEY=any
VOICEFLOW_SUB_ACCOUNT=demo
VOICEFLOW_BASE_URL=http://127.0.0.1:8088
VOICEFLOW_SOURCE=+6531234567
VOICEFLOW_WEBHOOK_SECRET=Bearer 3f9a1c5d7e2b8640
VOICEFLOW_UI_SECRET={READERS}
VOICEFLOW_UI_OPERATOR_SECRET={OPERATORS}
VOICEFLOW_MAX_ACTIVE=400
VOICEFLOW_MAX_PER_PERSON=2/24h
VOICEFLOW_SUBMIT_WINDOW=20s
"""
PRICES = "country,prefix,currency,per_minute,per_call\n" + "".join(
    f"{country},,USD,0.04,\n" for country in ("GB", "ZA", "AE", "ID", "SG", "US")
)
