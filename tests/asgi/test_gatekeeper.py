"""Access to the webhook: the secret, the network, and the proxies whose headers are believed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from voiceflow_worker.asgi.gatekeeper import Gatekeeper

SECRET = "Basic c2VjcmV0"
EIGHT = "18.140.80.2"
PROXY = "10.0.0.5"
STRANGER = "203.0.113.9"


def authorization(value: str) -> tuple[bytes, bytes]:
    return b"authorization", value.encode()


def forwarded(value: str) -> tuple[bytes, bytes]:
    return b"x-forwarded-for", value.encode()


def asking(peer: str | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> Scope:
    return {"type": "http", "client": None if peer is None else (peer, 4711), "headers": list(headers)}


def test_only_the_registered_header_lets_in() -> None:
    for shown, refusal in [
        ([authorization(SECRET)], None),
        ([], 401),
        ([authorization("")], 401),
        ([authorization("Basic c2VjcmV1")], 401),
        ([authorization(SECRET + "x")], 401),
        ([authorization(SECRET[:-1])], 401),
        ([authorization(SECRET.lower())], 401),
        ([authorization("s\u00e9cret")], 401),
        ([(b"x-authorization", SECRET.encode())], 401),
        ([authorization("wrong"), authorization(SECRET)], 401),
        ([authorization(SECRET), authorization(SECRET)], 401),
    ]:
        assert Gatekeeper(secrets=[SECRET]).refusal(asking(EIGHT, shown)) == refusal


def test_a_secret_may_have_letters_beyond_ascii() -> None:
    keeper = Gatekeeper(secrets=["cl\u00e9"])
    assert keeper.refusal(asking(None, [authorization("cl\u00e9")])) is None
    assert keeper.refusal(asking(None, [authorization("cle")])) == 401


def test_only_allowed_networks_are_let_in() -> None:
    for peer, refusal in [
        (EIGHT, None),
        ("18.140.80.3", 403),
        ("::ffff:18.140.80.2", None),
        ("2001:db8::1", None),
        ("2001:db9::1", 403),
        (None, 403),
        ("", 403),
        ("unix:/run/x", 403),
    ]:
        keeper = Gatekeeper(allow=[ip_network("18.140.80.2/32"), ip_network("2001:db8::/32")])
        assert keeper.refusal(asking(peer)) == refusal


def test_only_trusted_proxies_may_say_where_a_request_came_from() -> None:
    for peer, headers, sender in [
        (STRANGER, [], STRANGER),
        (STRANGER, [forwarded(EIGHT)], STRANGER),
        (PROXY, [], PROXY),
        (PROXY, [forwarded(EIGHT)], EIGHT),
        (PROXY, [forwarded(f"{EIGHT}, {STRANGER}")], STRANGER),
        (PROXY, [forwarded(f"{STRANGER}, {EIGHT}")], EIGHT),
        (PROXY, [forwarded(f"{EIGHT}, 10.0.0.6")], EIGHT),
        (PROXY, [forwarded(f"{EIGHT}"), forwarded("10.0.0.6")], EIGHT),
        (PROXY, [forwarded("10.0.0.7, 10.0.0.6")], "10.0.0.7"),
        (PROXY, [forwarded(f"{EIGHT}:4711")], EIGHT),
        (PROXY, [forwarded("[2001:db8::1]:443")], "2001:db8::1"),
        (PROXY, [forwarded(f"::ffff:{EIGHT}")], EIGHT),
        (PROXY, [forwarded(f"{EIGHT}, unknown")], None),
        (PROXY, [forwarded("")], None),
        (PROXY, [forwarded(EIGHT), forwarded(STRANGER)], STRANGER),
        (PROXY, [forwarded(f"{EIGHT}, {STRANGER}, 10.0.0.9")], STRANGER),
        (f"::ffff:{PROXY}", [forwarded(EIGHT)], EIGHT),
        ("nobody", [forwarded(EIGHT)], None),
    ]:
        keeper = Gatekeeper(trusted_proxies=[ip_network("10.0.0.0/8")])
        assert keeper.sender(asking(peer, headers)) == (None if sender is None else ip_address(sender))


@given(st.lists(st.tuples(st.sampled_from([b"x-forwarded-for", b"authorization"]), st.binary(max_size=60)), max_size=6))
def test_headers_of_any_bytes_are_judged_and_never_let_a_stranger_in(headers: list[tuple[bytes, bytes]]) -> None:
    keeper = Gatekeeper(
        secrets=["a secret that is no accident"],
        allow=[ip_network(f"{EIGHT}/32")],
        trusted_proxies=[ip_network("10.0.0.0/8")],
    )
    assert keeper.refusal(asking(PROXY, headers)) is not None
    assert keeper.refusal(asking(STRANGER, headers)) == 403
