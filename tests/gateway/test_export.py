"""The log export of 8x8: asked for once, waited for, downloaded without the key, read whatever it looks like."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.conftest import Kind, Said, StandIn
from tests.gateway.misbehaving import Connection, MisbehavingServer, answer, sends
from voiceflow_worker import VoiceClient
from voiceflow_worker.errors import CallLogError, CallLogUnavailableError
from voiceflow_worker.gateway.log_export import LONGEST_PAUSE, TIMEOUT, TRIES, LogExport, read_rows
from voiceflow_worker.gateway.wire import EXPORT_URL
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedCalls
from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

SINCE = datetime(2026, 11, 20, 7, 0, 0, 400_000, tzinfo=UTC)
UNTIL = datetime(2026, 11, 20, 8, 0, 0, 1, tzinfo=UTC)
DATE = datetime(2026, 11, 20, 8, 0, 3, tzinfo=UTC)
HEADER = (
    b"SessionId,CallId,SubAccountId,Direction,SourceEndpoint,DestinationEndpoint,InitiatedAt,ConnectedAt,"
    b"DisconnectedAt,DurationInSec,SessionStatus,CallStatus,SipStatus\r\n"
)
LINE = (
    b"s-1,c-1,acme,OUTBOUND,6531234567,6587654321,2026-11-20T07:30:00.000Z,2026-11-20T07:30:05Z,"
    b"2026-11-20T07:30:35Z,30,COMPLETED,COMPLETED,200\r\n"
)

ROW = ExportRow(
    session_id="s-1", call_id="c-1", direction=Direction.OUTBOUND, source="6531234567", destination="6587654321",
    initiated_at=datetime(2026, 11, 20, 7, 30, tzinfo=UTC), connected_at=datetime(2026, 11, 20, 7, 30, 5, tzinfo=UTC),
    disconnected_at=datetime(2026, 11, 20, 7, 30, 35, tzinfo=UTC), status=SessionStatus.COMPLETED,
    status_text="COMPLETED", call_status="COMPLETED", seconds=30.0, sip_code=200,
)  # fmt: skip

KEY = "secret-key-1"
FILE = "https://files.example/log.csv?signature=abc"


@dataclass
class EightByEight(StandIn):
    """Answers what an export asks for, each kind of request by itself."""

    started: list[Said] = field(default_factory=lambda: [said(202, {"jobId": "job 1"}, date=DATE)])
    states: list[Said] = field(default_factory=lambda: [said(200, {"status": "succeeded", "data": [FILE]})])
    files: list[Said] = field(default_factory=lambda: [httpx.Response(200, content=HEADER + LINE)])

    def answers_to(self, request: httpx.Request) -> list[Said]:
        if request.url.host == "files.example":
            return self.files
        return self.started if request.method == "POST" else self.states

    async def read(self) -> LoggedCalls:
        rest = self.rest(EXPORT_URL, "ac&me", tries=TRIES, longest_pause=LONGEST_PAUSE)
        return await LogExport(rest, sleep=self.sleep).read(since=SINCE, until=UNTIL)


def said(status: int, body: object = None, *, date: datetime | None = None, **headers: str) -> httpx.Response:
    if date is not None:
        headers["Date"] = date.strftime("%a, %d %b %Y %H:%M:%S GMT")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named)


@pytest.fixture
def service() -> EightByEight:
    return EightByEight()


class TestAsking:
    async def test_a_log_is_begun_waited_for_and_downloaded(self, service: EightByEight) -> None:
        service.states = [
            said(200, {"status": "queued"}),
            said(200, {"status": "running"}),
            said(200, {"status": "succeeded", "data": [FILE, "https://files.example/2"], "expires": "2026-12-20"}),
        ]
        service.files = [
            httpx.Response(200, content=HEADER + LINE),
            httpx.Response(200, content=HEADER + LINE.replace(b"s-1", b"s-2")),
        ]
        log = await service.read()
        assert [row.session_id for row in log.rows] == ["s-1", "s-2"]
        assert log.rows[0] == ROW
        assert (log.since, log.until) == (SINCE, UNTIL)
        assert service.naps == [0.25, 0.5]

    async def test_the_range_is_widened_to_whole_seconds_and_has_no_limit(self, service: EightByEight) -> None:
        await service.read()
        assert json.loads(service.requests[0].content) == {
            "from": "2026-11-20T07:00:00Z",
            "to": "2026-11-20T08:00:01Z",
            "limit": 0,
        }

    async def test_the_key_goes_to_8x8_and_not_to_where_the_files_are(self, service: EightByEight) -> None:
        await service.read()
        sent = {request.url.host: request.headers.get("authorization") for request in service.requests}
        assert sent == {"voice.wavecell.com": f"Bearer {KEY}", "files.example": None}

    async def test_a_link_may_be_relative(self, service: EightByEight) -> None:
        service.states = [said(200, {"status": "succeeded", "data": ["//files.example/x.csv"]})]
        assert (await service.read()).rows == [ROW]


class TestTryingAgain:
    async def test_a_get_that_fails_for_now_is_sent_again(self, service: EightByEight) -> None:
        service.states = [said(503), said(429, retry_after="7"), *service.states]
        service.files = [said(408), RuntimeError("of a transport nobody knows"), *service.files]
        assert (await service.read()).rows == [ROW]
        assert len(service.requests) == 1 + 3 + 3
        assert service.naps[1] == 7

    async def test_an_export_that_is_never_ready_is_given_up(self, service: EightByEight) -> None:
        service.states = [said(200, {"status": "running"})]
        with pytest.raises(CallLogError, match="not ready after 5 minutes"):
            await service.read()
        assert TIMEOUT.total_seconds() - 10 <= sum(service.naps) <= TIMEOUT.total_seconds()
        assert max(service.naps) == 10


NO_SENSE: tuple[object, ...] = (
    {"status": "done"}, {}, [], {"status": "succeeded"}, {"status": "succeeded", "data": []},
    {"status": "succeeded", "data": ["ftp://files.example/log.csv"]},
    {"status": "succeeded", "data": ["http://[broken"]},
)  # fmt: skip
NO_JOB: tuple[object, ...] = (None, {}, {"jobId": ""}, {"jobId": None}, [])
FAILING: list[tuple[str, Said, str, int | None]] = [
    # Which answer, and what it is; what is told; and the number of requests that are made, or None.
    *(("states", said(200, {"status": each}), f"ended with the state {each}", 2)
      for each in ("failed", "cancelled", "error")),
    *(("states", said(200, told), "", None) for told in NO_SENSE),
    *(("started", said(202, body), "no jobId", 1) for body in NO_JOB),
    ("started", said(401, {"message": f"no {KEY}"}), "check the API key", 1),
    ("started", said(404, {"message": f"no {KEY}"}), "check the sub-account id", 1),
    ("started", said(400, {"message": f"no {KEY}"}), "400", 1),
    ("files", httpx.Response(403, text="expired"), "files.example answered 403", 3),
    ("files", httpx.ConnectError(f"cannot connect to {FILE}"), "", 2 + TRIES),
]  # fmt: skip


class TestFailing:
    async def test_what_is_wrong_is_told_once_without_the_key_and_the_signature_of_a_link(self) -> None:
        for which, answered, told, requests in FAILING:
            service = EightByEight()
            setattr(service, which, [answered])
            with pytest.raises(CallLogError) as caught:
                await service.read()
            assert isinstance(caught.value, CallLogUnavailableError) is isinstance(answered, Exception)
            assert told in str(caught.value), (which, answered)
            assert KEY not in str(caught.value)
            assert "signature" not in str(caught.value)
            assert requests in {None, len(service.requests)}, (which, answered)

    async def test_the_log_has_an_address_of_its_own_unless_one_is_named(self) -> None:
        for base_url, host in ((None, "voice.wavecell.com"), ("https://other.example", "other.example")):
            asked: list[str] = []

            def refuse(request: httpx.Request, asked: list[str] = asked) -> httpx.Response:
                asked.append(request.url.host)
                return httpx.Response(401)

            async with VoiceClient(KEY, "acme", base_url=base_url, transport=httpx.MockTransport(refuse)) as client:
                with pytest.raises(CallLogError):
                    await client.logged_calls(since=SINCE, until=UNTIL)
            assert asked == [host]


def rows(text: str) -> list[ExportRow]:
    return read_rows(text.encode())


SHORT = "SessionId,SourceEndpoint,DestinationEndpoint,InitiatedAt,SessionStatus\n"
BUSY = ExportRow(
    session_id="s-1", source="6531234567", destination="6587654321",
    initiated_at=datetime(2026, 11, 20, 7, 30, tzinfo=UTC), status=SessionStatus.BUSY, status_text="BUSY",
)  # fmt: skip


def of_numbers(at: str = "2026-11-20T07:30:00Z", status: str = "BUSY") -> ExportRow:
    (row,) = rows(f"{SHORT}s-1,6531234567,6587654321,{at},{status}\n")
    return row


class TestReading:
    def test_columns_are_found_by_name_in_any_order_and_spelling(self) -> None:
        (row,) = rows(
            "destination_endpoint;SOURCE ENDPOINT;Session-Id;initiatedat;New;SessionStatus\n"
            "6587654321;6531234567;s-1;2026-11-20 07:30:00;x;No Answer\n"
        )
        assert row == replace(BUSY, status=SessionStatus.NO_ANSWER, status_text="No Answer")

    def test_a_byte_order_mark_and_quotes_and_empty_lines_do_not_matter(self) -> None:
        text = SHORT + '\n"s-1","6531234567","6587654321",2026-11-20T15:30:00+08:00,BUSY\n\n'
        assert read_rows(b"\xef\xbb\xbf" + text.encode()) == [BUSY]

    def test_a_time_that_cannot_be_read_is_none(self) -> None:
        for written, read in [
            ("2026-11-20T07:30:00.1234567Z", datetime(2026, 11, 20, 7, 30, 0, 123456, tzinfo=UTC)),
            ("2026-11-20T07:30Z", datetime(2026, 11, 20, 7, 30, tzinfo=UTC)),
            *((each, None) for each in ("20/11/2026 07:30", "null", "", "0001-01-01T00:00:00+14:00")),
        ]:
            assert of_numbers(written).initiated_at == read

    def test_a_time_without_a_zone_is_utc_wherever_this_machine_stands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try:
            with monkeypatch.context() as elsewhere:
                elsewhere.setenv("TZ", "UTC-8")
                time.tzset()
                assert of_numbers("2026-11-20 07:30:00") == BUSY
        finally:
            time.tzset()

    def test_a_status_that_nobody_knows_keeps_its_words(self) -> None:
        assert of_numbers(status="IN PROGRESS") == replace(BUSY, status=None, status_text="IN PROGRESS")

    @pytest.mark.parametrize("line", ["s-1,6531234567", "s-1,1,2,3,4,5,6", "x" * 200_000 + ",1,2,3,4"])
    def test_a_line_that_is_broken_becomes_a_row_that_may_be_any_call(self, line: str) -> None:
        found = rows(SHORT + f"{line}\ns-1,6531234567,6587654321,2026-11-20T07:30:00Z,BUSY\n")
        assert found == [ExportRow(), BUSY]

    @pytest.mark.parametrize("text", ["", "\n", "a,b,c\n1,2,3\n", "SessionId,SourceEndpoint,InitiatedAt\n"])
    def test_a_file_without_the_columns_is_not_a_log(self, text: str) -> None:
        with pytest.raises(CallLogError, match="columns are missing"):
            rows(text)

    @given(st.binary(max_size=300))
    def test_no_bytes_behind_the_columns_are_an_error(self, junk: bytes) -> None:
        read_rows(SHORT.encode() + junk)


async def test_the_client_reads_a_log_on_every_transport(kind: Kind) -> None:
    link = json.dumps({"status": "succeeded", "data": ["/files/1?signature=x"]}).encode()
    left = [b'{"jobId":"j-1"}', link, HEADER + LINE]

    def behave(connection: Connection) -> None:
        """One request on each connection: the POST, the state, the file."""
        sends(answer(200, left.pop(0), f"Date: {DATE:%a, %d %b %Y %H:%M:%S} GMT", "Connection: close"))(connection)

    with MisbehavingServer(behave) as server:
        async with kind.client(server.url) as voice:
            log = await voice.logged_calls(since=SINCE, until=UNTIL)
    assert log.rows == [ROW]
    assert [head.split(b" ")[:2] for head in server.heads] == [
        [b"POST", b"/api/v1/subaccounts/sub_account/messages/exports"],
        [b"GET", b"/api/v1/subaccounts/sub_account/messages/exports/j-1"],
        [b"GET", b"/files/1?signature=x"],
    ]
    assert b"authorization" not in server.heads[2].lower()


# -- all columns -------------------------------------------------------------------------------------------------------


def test_every_field_has_its_column_among_those_of_the_reference() -> None:
    cells = {
        "SessionId": "s-1", "CallId": "c-1", "AccountId": "a-1", "Direction": "OUTBOUND", "SourceCountry": "Singapore",
        "SourceEndpoint": "6531234567", "DestinationEndpoint": "60121234567", "InitiatedAt": "2026-11-20T07:30:00Z",
        "ConnectedAt": "2026-11-20T07:30:05Z", "DisconnectedAt": "2026-11-20T07:30:35Z", "DurationInSec": "30",
        "UnitPrice": "0.0400", "SessionStatus": "COMPLETED", "CallStatus": "COMPLETED", "MOS": "4.2",
        "SipStatus": "200 OK",
    }  # fmt: skip
    (row,) = read_rows(",".join(cells).encode() + b"\r\n" + ",".join(cells.values()).encode() + b"\r\n")
    assert all(getattr(row, each.name) for each in fields(ExportRow))
    assert (row.mos, row.sip_code) == (4.2, 200)
