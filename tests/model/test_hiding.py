from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.text.printable import SHORTEST_HIDDEN, without_secrets, without_secrets_in


def test_a_password_is_never_shown() -> None:
    for url, shown in [
        ("redis://me:geheim@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://:ge@heim@host", "redis://:***@host"),
        ("redis://me:ge/heim@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://me:ge?heim@host/0", "redis://***"),
        ("redis://me:ge#heim@host/0", "redis://***"),
        ("redis://me:12?heim@host/0", "redis://***"),
        ("redis://ge/heim:x@host/0", "redis://***:***@host/0"),
        ("redis://geheim@host/0", "redis://***@host/0"),
        ("redis://host/0?sentinel_password=geheim", "redis://host/0"),
        ("redis://host/0?sentinel_password=ge@heim", "redis://***"),
        ("redis://me:geheim@[::1", "redis://me:***@[::1"),
        ("me:geheim@host/0", "me:***@host/0"),
        ("me:geheim", "***"),
        ("me:12?heim@host", "***"),
        ("127.0.0.1:8088", "127.0.0.1:8088"),
        ("calls.db", "calls.db"),
        ("sqlite:///calls@home.db", "sqlite:///calls@home.db"),
        ("sqlite:////var/lib/calls#1.db?key=geheim", "sqlite:////var/lib/calls#1.db"),
        ("sqlite:calls.db", "sqlite:calls.db"),
        ("sqlite://me:geheim@host/calls.db", "sqlite://me:***@host/calls.db"),
        ("memory://", "memory://"),
    ]:
        assert without_secrets(url) == shown


def test_options_that_hold_no_secret_can_be_shown() -> None:
    url = "redis+sentinel://s1/calls?durability=best-effort&sentinel_password=ge&heim&replicas=1&prefix=GeHeim"
    assert without_secrets(url, options=True) == "redis+sentinel://s1/calls?durability=best-effort&***&replicas=1"


PIECES = st.text("Q/@:%#?&=[] é\u2100", min_size=1, max_size=8)


@given(
    before=PIECES, after=PIECES, form=st.sampled_from(["{}://me:{}@host:6379/0", "{}://:{}@host", "{}://me:{}@h,i/n"])
)
def test_no_letter_of_any_password_is_shown(before: str, after: str, form: str) -> None:
    url = form.format("redis", f"QQ{before}Q{after}QQ")
    assert "Q" not in without_secrets(url)
    assert "Q" not in without_secrets(url, options=True)
    assert "Q" not in without_secrets(
        form.format("redis", "x") + f"?sentinel_password=QQ{before}Q{after}QQ", options=True
    )


def test_passwords_and_known_secrets_are_hidden_in_a_text() -> None:
    text = "cannot reach redis://me:ge/heim@host/0, sqlite:////a@b.db; the key k-1 was sent by ann@example.com"
    assert without_secrets_in(text, known=["k-1"]) == (
        "cannot reach redis://***@host/0, sqlite:////a@b.db; the key *** was sent by ann@example.com"
    )


@given(st.text("abcxyz", min_size=1, max_size=SHORTEST_HIDDEN - 1), st.text("abcxyz", min_size=1, max_size=3))
def test_a_short_secret_is_hidden_as_a_word_and_not_inside_words(secret: str, part: str) -> None:
    told = f"{part}{secret} {secret}{part} the key ({secret}), k={secret}."
    assert without_secrets_in(told, known=[secret]) == f"{part}{secret} {secret}{part} the key (***), k=***."
