"""Types of setting values, with their parsers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.numbers.reading import read_numbers
from voiceflow_worker.model.text.web_address import HostRule, read_hosts
from voiceflow_worker.model.text.wording import QUEUE_NAME, SUB_ACCOUNT_ID, read_duration, why_unreadable

Network: TypeAlias = IPv4Network | IPv6Network


def read_networks(value: object) -> tuple[Network, ...]:
    """The networks in a text such as `10.0.0.0/8, 18.140.80.2`, or in a list of texts. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    try:
        return tuple(ip_network(str(part).strip()) for part in parts if str(part).strip())
    except (TypeError, ValueError) as error:
        reason = f"{error}; " if isinstance(error, ValueError) else ""
        raise ValueError(f"{reason}give networks separated by commas, such as 10.0.0.0/8, 18.140.80.2") from None


def parse_duration(text: str) -> timedelta:
    """The duration in a text such as `500ms`, `30s`, `5m`, `2h` or `7d`. Raises SettingsError for any other text."""
    try:
        return read_duration(text)
    except ValueError as error:
        raise SettingsError(f"{text!r} is not a duration: {error}") from None


def _duration(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else read_duration(str(value))


def _timeout(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else read_duration(str(value), in_seconds=True)


def _folded(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def yes_or_no(value: object) -> object:
    """`yes` or `no`, also for other spellings such as `true` and `0`. Any other text is returned in lower case."""
    text = str(value).strip().lower()
    return {"true": "yes", "1": "yes", "false": "no", "0": "no"}.get(text, text)


def _in_form(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def judged(text: str) -> str:
        if pattern.fullmatch(text.strip()) is None:
            raise ValueError(expected)
        return text.strip()

    return AfterValidator(judged)


def _secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    # A secret is sent as the value of a header, which cannot hold line breaks (RFC 9110 §5.5).
    if not (text.isascii() and text.isprintable()):
        raise ValueError("it has a line break or another character that HTTP headers cannot hold; copy it again")
    return SecretStr(text)


_CERTIFICATE = re.compile(r"-----BEGIN (X509 )?CERTIFICATE-----.+?-----END (X509 )?CERTIFICATE-----", re.DOTALL)
_BEGINS = re.compile(r"-----BEGIN (X509 )?CERTIFICATE-----")
_INSTEAD = (
    ("PRIVATE KEY-----", "it has a private key, and no certificate; give the certificate of the authority that signs"),
    ("-----BEGIN PKCS7-----", "it is PKCS #7; `openssl pkcs7 -print_certs -in FILE -out FILE.pem` makes PEM of it"),
    ("CERTIFICATE REQUEST-----", "it has a request for a certificate, and no certificate"),
)
"""What files may have instead of certificates, by a mark in them."""


def read_certificates(path: Path) -> str:
    """The certificates in a PEM file, without the texts around them. Raises ValueError, which says what to do."""
    import ssl  # takes 10 ms to load, and hardly anybody has such a file

    try:
        data = path.read_bytes()
    except OSError as error:
        why = "it is a folder; name one file in it" if path.is_dir() else why_unreadable(error)
        raise ValueError(f"the file cannot be read: {why}") from None
    if not data.strip():
        raise ValueError("the file is empty; give a file of certificates in PEM form")
    text = data.decode("utf-8-sig", "replace")
    found = [each[0] for each in _CERTIFICATE.finditer(text)]
    if not _BEGINS.search(text):
        is_binary = b"\0" in data or not data[:64].isascii()
        der = "it is not text; if it is DER, `openssl x509 -inform der -in FILE -out FILE.pem` makes PEM of it"
        other = der if is_binary else "it has no certificate (-----BEGIN CERTIFICATE-----)"
        raise ValueError(next((why for mark, why in _INSTEAD if mark in text), other))
    certificates = "\n".join(found)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificates)
        is_whole = len(found) == len(_BEGINS.findall(text))
    except (ssl.SSLError, TypeError, ValueError):  # TypeError: a letter that is not ASCII
        is_whole = False
    if not is_whole:
        raise ValueError("a certificate in the file is damaged; copy the file again")
    return certificates


def _certificates_in(path: Path) -> Path:
    path = path.expanduser()
    read_certificates(path)
    return path


def text_of(secret: SecretStr | None) -> str | None:
    """The text of a secret, if there is one."""
    return None if secret is None else secret.get_secret_value()


LogLevel = Literal["debug", "info", "warning", "error", "critical"]
Text = Annotated[str, AfterValidator(str.strip)]
Folded: Final = BeforeValidator(_folded)
PositiveTimeout = Annotated[timedelta, Field(gt=timedelta(0)), BeforeValidator(_timeout)]
Timeout = Annotated[timedelta, Field(ge=timedelta(0)), BeforeValidator(_timeout)]
"""A timeout. Unlike other durations, it may be a number of seconds without a unit."""
Duration = Annotated[timedelta, Field(ge=timedelta(0)), BeforeValidator(_duration)]
YesNo = Annotated[Literal["no", "yes"], BeforeValidator(yes_or_no)]
Count = Annotated[int, Field(ge=1)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(read_networks)]
Hosts = Annotated[tuple[HostRule, ...], BeforeValidator(read_hosts)]
CertificateFile = Annotated[Path, AfterValidator(_certificates_in)]
Numbers = Annotated[tuple[str, ...], BeforeValidator(read_numbers)]
Queue = Annotated[str, _in_form(QUEUE_NAME, "give 1 to 16 characters of a-z, 0-9 and -, and do not begin with -")]
# 8x8 documents this form of a sub-account id.
SubAccount = Annotated[str, _in_form(SUB_ACCOUNT_ID, "give 3 to 50 letters, digits, -, ., _ or &")]
