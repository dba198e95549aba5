"""Rows of a known shape get the call and the findings that the validation of the whole body gives them."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.campaigns.reading import NOW, file_of
from voiceflow_worker.campaigns.calls import shapes
from voiceflow_worker.campaigns.calls.keys import SeenKeys, row_key
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.model.flows.canonical import body_digest, canonical_body, stored_body
from voiceflow_worker.model.flows.rules import find_problems

COLUMNS = (
    "destination",
    "source",
    "voice_profile",
    "unique_key",
    "priority",
    "batch_id",
    "name",
    "text",
    "tries",
    "url",
)


def capture(**params: object) -> dict[str, object]:
    return {"action": "sayAndCapture", "params": {"promptMessage": "{{name}}, press 1.", **params}}


def flow(*entries: Mapping[str, object], **more: object) -> dict[str, object]:
    return {"callflow": [{"action": "makeCall"}, *entries], **more}


SAY = {"action": "say", "params": {"text": "{{text}}"}}
TEMPLATES = [
    flow({"action": "say", "params": {"text": " Hello {{name}}, \n{{text}}! "}}, {"action": "hangup"}),
    flow(SAY, {"action": "say", "params": {"text": "{{name}}", "voiceProfile": "{{voice_profile}}"}}),
    flow(SAY, capture(noOfTries="{{tries}}", successMessage="{{text}}"), clientBatchId="fixed"),
    flow(SAY, {"action": "playFile", "params": {"fileUrl": "{{url}}", "repetition": "{{tries}}"}}, unknown=1),
    flow(SAY, {"action": "say", "params": {"text": "{% if name %}Dear {{name | upper}}{% endif %} {{text}}"}}),
    flow(
        capture(maxDigits=30), {"action": "makeCall", "params": {"source": "{{source}}", "destination": "6587654321"}}
    ),
    {"callflow": [{"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{ destination }}"}}, SAY]},
    {"callflow": [{"action": "makeCall", "params": {"destination": "{{name}}"}}, SAY]},
    flow(SAY, clientRequestId="{{name}}"),
    flow(SAY, clientRequestId="{{unique_key}}-1", validUntil="2030-01-31T09:00:00.000Z"),
]
TEXTS = st.one_of(
    st.sampled_from(["", " ", "Ana", 'é "q" \\ </s>', "{{name}}", "{% x", "a\x07b", "\x85", "\u2028", "x" * 3001]),
    st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=12),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "destination": st.sampled_from(
                [
                    "+6587654321",
                    "87654322",
                    "6587654323",
                    "+65 8765-4324",
                    "+6580000005",
                    "+14155552671",
                    "",
                    "x",
                    "123",
                ]
            ),
            "source": st.sampled_from(["", "", "+6531234567", "31234568", "bad"]),
            "voice_profile": st.sampled_from(["", "", "en-GB-SoniaNeural", "a\x07b"]),
            "unique_key": st.sampled_from(["", "", "k1", "k2", "k" * 201]),
            "priority": st.sampled_from(["", "", "5", "x"]),
            "batch_id": st.sampled_from(["", "", "b", "b" * 51]),
            "name": TEXTS,
            "text": TEXTS,
            "tries": st.sampled_from(["", "1", "2", "2.0", "9", "no", "true"]),
            "url": st.sampled_from(["https://example.com/a.wav", "https://example.com/a.ogg", "ftp://x", "", "a b"]),
        }
    ),
    min_size=1,
    max_size=8,
)
OPTIONS = st.builds(
    CampaignOptions,
    template=st.sampled_from([FlowTemplate.parse(body, name="flow.json") for body in TEMPLATES]),
    source=st.just("+6531234567"),
    voice_profile=st.sampled_from(["en-IE-EmilyNeural", "en-US-JennyNeural"]),
    country=st.sampled_from([None, "SG"]),
    valid_for=st.sampled_from([None, timedelta(hours=2)]),
)


def read(path: Path, options: CampaignOptions, *, most_shapes: int) -> list[ReadRow]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "MOST_SHAPES", most_shapes)
        return list(open_campaign(path, options, now=NOW))


@given(ROWS, OPTIONS)
@settings(max_examples=150, deadline=None)
def test_a_row_of_a_known_shape_is_read_as_by_the_whole_validation(
    rows: list[dict[str, str]], options: CampaignOptions
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([[row[name] for name in COLUMNS] for row in [*rows, *rows]])  # each shape at least twice
        quick, whole = read(path, options, most_shapes=256), read(path, options, most_shapes=0)
    assert quick == whole
    for row in quick:
        if row.call is not None and row.request is not None:
            body = row.request.flow
            assert not [found for found in find_problems(body.to_body()) if found.is_error]
            assert (row.call.body, row.digest) == (stored_body(body), body_digest(canonical_body(body)))


def test_rows_beyond_the_most_shapes_are_validated_one_by_one(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, "destination,name,voice_profile\n" + "".join(f"8765{n},Ana,v{n}\n" for n in range(4000, 4009))
    )
    options = CampaignOptions(template=FlowTemplate.speaking("Hello {{name}}"), source="+6531234567", country="SG")
    assert read(path, options, most_shapes=3) == read(path, options, most_shapes=0)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        # Keys with a dot in them give two texts the same path.
        (flow(SAY, meta={"a.b": "{{name}}", "a": {"b": "{{tries}}"}}), ["x,Ana,1", "x,Ben,1", "x,Cy,1"]),
        (flow({**SAY, "params.text": "{{name}}"}), ["x,Ana,1", "y,Ben,1"]),
        (flow(capture(minDigits="{{tries}}", maxDigits=5)), ["x,Ana,0.0", "x,Ana,-0.0"]),
    ],
)
def test_no_row_gets_a_value_of_another_row(body: dict[str, object], rows: list[str], tmp_path: Path) -> None:
    numbered = "".join(f"8765{4000 + place},{row}\n" for place, row in enumerate(rows))
    path = file_of(tmp_path, f"destination,text,name,tries\n{numbered}")
    options = CampaignOptions(
        template=FlowTemplate.parse(body, name="flow.json"), source="+6531234567", voice_profile="v", country="SG"
    )
    quick, whole = read(path, options, most_shapes=256), read(path, options, most_shapes=0)
    assert all(row.call is not None for row in quick)
    # `==` does not tell 0.0 from -0.0, but the bodies are texts.
    assert quick == whole


def test_a_key_that_the_file_had_before_is_found_among_thousands() -> None:
    seen = SeenKeys()
    keys = [row_key("b", str(place)) for place in range(5000)]
    assert not any(seen.first(key, row=row, digest=f"{row:032x}") for row, key in enumerate(keys, 2))
    assert seen.first(keys[3000], row=9000, digest=f"{3002:032x}") == (3002, True)
    assert seen.first(keys[4999], row=9001, digest=f"{1 << 70:032x}") == (5001, False)
