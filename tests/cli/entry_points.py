"""Campaigns by their fields, for each way in which they are started: what they decide about calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from voiceflow_worker import Job
from voiceflow_worker.model.jobs.policy import write_redial_after

PEOPLE = """name;Mobile;day;language;source;Home;Land;visit
Ana;8765 4321;31/12/2099;;;6123 4567;SG;2030-01-30T23:00:00Z
Ben;8765 4322;1/2/2099;;+442071838750;;Singapore;2030-01-31 07:00
Cik;+60 12-345 6789;1/2/2099;ms;;;;2030-01-30T23:00:00Z
"""
MENUS = """
from voiceflow_worker import Menu

ask = Menu(
    "ask",
    prompt={"en": "Hello {{name}}. Press 1.", "ms": "Helo {{name}}. Tekan 1."},
    voice_profile={"en": "en-SG-LunaNeural", "ms": "ms-MY-OsmanNeural"},
    language="en",
)
ask.on("1", goto="{{name}}")
one = Menu("one", prompt="Press 1 for {{name}}.", voice_profile="en-SG-LunaNeural")
one.on("1", goto="{{name}}")
"""
WORDS = {"say": "Hello {{name}}, see you on {{day|date}}."}
READ = {"country": "SG", "columns": "destination=Mobile", "date_order": "dmy"}
SOURCE = {"source": "+6531234567", "voice_profile": "en-US-JennyNeural"}
LATER = {"time_zone": "Asia/Singapore", "not_before": "2099-12-31 09:00"}
Fields = Mapping[str, Any]


def people_of(fields: Mapping[str, Any]) -> str:
    """The people of a case, whose language stands in the column that it names, and one whom it leaves out."""
    gone = "Dan;k.A.;;;;;;\n" if "leave_out" in fields else ""
    return PEOPLE.replace("language", "Sprache" if "language=Sprache" in fields["columns"] else "language") + gone


def of(job: Job) -> dict[str, Any]:
    """What a start decides about a call."""
    redial = job.redial
    return {
        "body": json.loads(job.body),
        "unique_key": job.unique_key,
        "numbers": job.numbers,
        "batch": job.batch_id,
        "priority": job.priority,
        "due_at": job.due_at.isoformat() if job.due_at.year >= 2099 else None,
        "valid_until": job.valid_until.isoformat() if job.valid_until else None,
        "window": str(job.window) if job.window else None,
        "time_zone": job.time_zone,
        "redial": redial and (sorted(redial.on), redial.limit, write_redial_after(redial.after)),
        "menu": job.menu,
        "data": job.data,
    }


CASES: dict[str, tuple[Fields, Fields, dict[str, Any]]] = {
    "settings": (
        {
            "SOURCE": "SG=+6531111111,MY=+60321111111", "VOICE_PROFILE": "en-IE-EmilyNeural", "REDIAL_ON": "busy,error",
            "REDIAL_MAX": "3", "REDIAL_AFTER": "busy=5m,failed=2h",
        },
        {**WORDS, **READ},
        {
            "sources": ["+6531111111", "+442071838750", "+60321111111"],
            "voices": ["en-IE-EmilyNeural"] * 3,
            "redial": (["BUSY", "ERROR"], 3, "busy=5m,error=2h"),
            "batch": "people",
            "priority": 0,
            "window": None,
        },
    ),
    "fields": (
        {"SOURCE": "+6531111111", "VOICE_PROFILE": "en-IE-EmilyNeural", "REDIAL_ON": "busy", "REDIAL_MAX": "3"},
        {
            **WORDS, **READ, **SOURCE, **LATER, "valid_for": "2h",
            "batch": "march", "priority": "7", "window": "09:00-20:00", "days": "mon,thu", "holidays": "SG,MY",
            "redial_on": "no_answer,busy",
            "redial_max": "2", "redial_after": "busy=5m,no_answer=2h",
            "most": "900",
            "leave_out": "Name=Dan", "header_row": "1", "only": "Name!=Eve", "limit": "3",
            "columns": "destination=Mobile,destination=Home,name=Name,ignore=Land",
        },
        {
            "sources": ["+6531234567", "+442071838750", "+6531234567"],
            "voices": ["en-US-JennyNeural"] * 3,
            "redial": (["BUSY", "NO_ANSWER"], 2, "busy=5m,no_answer=2h"),
            "numbers": ("+6587654321", "+6561234567"),
            "batch": "march",
            "priority": 7,
            "windows": ["09:00-20:00 mon,thu SG", "09:00-20:00 mon,thu SG", "09:00-20:00 mon,thu MY"],
            "time_zone": "Asia/Singapore",
            "due_at": "2099-12-31T01:00:00+00:00",
            "valid_until": "2099-12-31T03:00:00+00:00",
        },
    ),
    "menu": (
        {"VOICE_PROFILE": "en-IE-EmilyNeural", "REDIAL_ON": "busy"},
        {
            **READ, **LATER, "source": "SG=+6531234567,*=+12025550123", "ivr": "menus_of_campaign:ask",
            "redial_max": "0", "valid_until": "2099-12-31 12:00",
        },
        {
            "menu": "ask",
            "sources": ["+6531234567", "+442071838750", "+12025550123"],
            "voices": ["en-SG-LunaNeural", "en-SG-LunaNeural", "ms-MY-OsmanNeural"],
            "redial": (["BUSY"], 0, "30m"),
            "valid_until": "2099-12-31T04:00:00+00:00",
        },
    ),
    "a text before a menu": (
        {},
        {**READ, **SOURCE, "ivr": "menus_of_campaign:one", "say": "Hello {{name}}"},
        {
            "menu": "one",
            "questions": [f"Hello {name}. Press 1 for {name}." for name in ("Ana", "Ben", "Cik")],
            "actions": ["makeCall", "sayAndCapture"],
        },
    ),
    "hours at the number": (
        {},
        {
            **WORDS, **READ, **SOURCE, "time_zone": "Europe/Berlin", "not_before": "2099-12-31 18:00",
            "window": "SG=10:00-12:00,14:00-18:00,*=09:00-18:00", "days": "mon-sun", "holidays": "number",
        },
        {
            "windows": [
                "10:00-12:00,14:00-18:00 mon-sun SG", "10:00-12:00,14:00-18:00 mon-sun SG", "09:00-18:00 mon-sun MY",
            ],
            "zones": ["Asia/Singapore", "Asia/Singapore", "Asia/Kuching"],
            # 18:00 in Berlin is 01:00 of New Year's Day there, a Friday: a holiday of Singapore, not of all Malaysia.
            "due": ["2100-01-02T02:00:00+00:00", "2100-01-02T02:00:00+00:00", "2100-01-01T01:00:00+00:00"],
        },
    ),
    "times of a column": (
        {},
        {
            **WORDS, **READ, **SOURCE, "time_zone": "Asia/Singapore", "not_before": "Visit - 1d",
            "valid_until": "visit - 30m", "window": "any",
        },
        {"valid_until": "2030-01-30T22:30:00+00:00"},
    ),
    "times with zones": (
        {},
        {**READ, **SOURCE, "time_zone": "Europe/Berlin",
            "say": "Come on {{visit|date}} at {{visit|time}}.",
        },
        {"texts": ["Come on January 31, 2030 at 7:00 AM."] * 3},
    ),
    "hours elsewhere": (
        {},
        {
            **WORDS, **READ, **SOURCE, "time_zone": "Asia/Singapore", "not_before": "2099-12-31 09:00",
            "window": "09:00-18:00", "window_time_zone": "Europe/Berlin",
        },
        {
            "windows": ["09:00-18:00 mon-sun in Europe/Berlin"] * 3,
            "due": ["2099-12-31T08:00:00+00:00"] * 3,
        },
    ),
    "columns": (
        {},
        {
            **SOURCE, "ivr": "menus_of_campaign:ask", "columns": "destination=Mobile,country=Land,language=Sprache",
            "date_order": "dmy",
        },
        {"voices": ["en-SG-LunaNeural", "en-SG-LunaNeural", "ms-MY-OsmanNeural"]},
    ),
}  # fmt: skip
