"""The settings, and the only reader of the environment.

A setting is looked for in this order: the options of `load_settings`, the environment (`VOICEFLOW_RATE`), `.env`, the
default. `.env` is that of the working directory. A name that ends in `_FILE` gives the path of a file that holds the
value (`VOICEFLOW_API_KEY_FILE=/run/secrets/8x8`). An empty value counts as not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from io import StringIO
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar, cast

from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, PlainValidator, PrivateAttr, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.jobs.policy import (
    CallPolicy,
    OutcomeSource,
    PersonLimit,
    RedialWait,
    read_person_limit,
    read_redial_after,
    redial_words,
    write_redial_after,
)
from voiceflow_worker.model.numbers.reading import read_numbers
from voiceflow_worker.model.text.printable import SHORTEST_HIDDEN, without_secrets
from voiceflow_worker.model.text.web_address import (
    Proxy,
    is_this_machine,
    read_base_url,
    read_hosts,
    read_notify_url,
    read_proxy,
)
from voiceflow_worker.model.text.wording import (
    QUEUE_NAME,
    SUB_ACCOUNT_ID,
    did_you_mean,
    read_duration,
    read_rate,
    table_text,
    why_unreadable,
)
from voiceflow_worker.secret_text import both_values, why_guessable

Read = TypeVar("Read")
PREFIX = "VOICEFLOW_"
ENV_FILE = ".env"
ENVIRONMENT = "the environment"
DEFAULT = "the default"
"""The place of a setting that is not set anywhere."""
_FIRST_ADVANCED = "wait_for_store"
"""The first setting, in the order of the class, that hardly any installation changes."""
_ADDRESSES = frozenset({"store", "base_url", "proxy", "notify_url"})


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, with its name and place. With `in_file`, `value` is the path of its file.

    `is_twice` if the place has both it and the name of its file.
    """

    value: object
    name: str
    place: str
    in_file: bool = False
    is_twice: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"

    @property
    def path(self) -> Path:
        """Path of its file. Raises SettingsError."""
        try:
            return _whole(Path(str(self.value).strip()))
        except ValueError as error:
            raise SettingsError(f"{self.name} is {self.value!r} ({self.place}): {error}") from None

    def read(self) -> object:
        """Return the value, from its file if it is in one. Raises SettingsError if it cannot be read there."""
        if self.is_twice:
            raise SettingsError(f"{self.name} and {self.name}_FILE are both set ({self.place}); keep one of them")
        if not self.in_file:
            # Docker's --env-file leaves the quotes of a value in the environment.
            return _without_quotes(self.value) if isinstance(self.value, str) else self.value
        return read_small(self.path, f"{self} names {self.path}, which", _value_in)


def _whole(path: Path) -> Path:
    """Return the path, with the home directory for a `~`. Raises ValueError."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path.parts[0]} is no home directory here; write the whole path") from None


def read_small(path: Path, named: str, read: Callable[[str], Read]) -> Read:
    """Return what `read` finds in the text of a file in UTF-8. Raises SettingsError about `named`."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{named} cannot be read: {why_unreadable(error)}") from None
    try:
        return read(text)
    except ValueError as error:
        raise SettingsError(f"{named} {error}") from None


def _value_in(text: str) -> str:
    """Return the value that is alone in a file. Raises ValueError."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise ValueError(f"has {len(lines)} lines: write the value alone into it, on one line")
    return _without_quotes(lines[0])


def _without_quotes(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """An unknown name among the settings, such as a misspelt name or a setting of another version."""

    name: str
    place: str
    suggestion: str | None

    def in_words(self) -> str:
        """Return a sentence without a full stop: the name, its place, and the setting that was probably meant."""
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{self.name} ({self.place}) is not a setting of this version{hint}"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """One setting for people. `value` is its text, with secrets hidden; `place` is its origin.

    Hardly any installation changes a setting that `is_advanced`.
    """

    variable: str
    value: str
    place: str
    is_advanced: bool


def _given_in(place: str, variables: Mapping[str, str]) -> dict[str, _Given]:
    """Return the settings in one place, each under its name, or under its name with `_FILE`."""
    found: dict[str, _Given] = {}
    for name in NAMES:
        variable = PREFIX + name.upper()
        value, path = variables.get(variable), variables.get(f"{variable}_FILE")
        if value is not None:
            found[name] = _Given(value, variable, place, is_twice=path is not None)
        elif path is not None:
            found[name] = _Given(path, f"{variable}_FILE", place, in_file=True)
    return found


_OF_KUBERNETES = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes gives each pod about a Service that is called voiceflow, which nobody can leave out."""


def _places() -> dict[str, dict[str, str]]:
    """Return the variables with a value in each place, the most important place first. Raises SettingsError.

    Their names are in capitals, however they are written.
    """
    in_file = _variables_of(Path(ENV_FILE)) if Path(ENV_FILE).exists() else {}
    return {
        place: {name.upper(): value for name, value in variables.items() if value.strip()}
        for place, variables in ((ENVIRONMENT, os.environ), (ENV_FILE, in_file))
    }


def _variables_of(file: Path) -> dict[str, str]:
    """Return the variables in a file such as `.env`. A `$` means itself. Raises SettingsError."""

    def read(text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in parse_stream(StringIO(text)):
            if each.error or (each.key is not None and each.value is None):
                written = each.original.string
                line = each.original.line + written[: len(written) - len(written.lstrip())].count("\n")
                raise ValueError(
                    f"has no NAME=value in line {line}: write it so, with quotes around all of the value or none"
                )
            if each.key is not None and each.value is not None:
                found[each.key] = each.value
        return found

    return read_small(file, ENV_FILE, read)


Network: TypeAlias = IPv4Network | IPv6Network


def read_networks(value: object) -> tuple[Network, ...]:
    """Return the networks in a text such as `10.0.0.0/8, 18.140.80.2`, or in a list of texts. Raises ValueError."""
    try:
        return tuple(map(ip_network, _listed(value)))
    except (TypeError, ValueError) as error:
        reason = f"{error}; " if isinstance(error, ValueError) else ""
        raise ValueError(f"{reason}give networks separated by commas, such as 10.0.0.0/8, 18.140.80.2") from None


def _time(*, is_timeout: bool = False, is_positive: bool = False) -> Callable[[object], timedelta]:
    def read(value: object) -> timedelta:
        found = value if isinstance(value, timedelta) else read_duration(str(value), in_seconds=is_timeout)
        if found < timedelta() or (is_positive and not found):
            raise ValueError(f"it should be greater than {'' if is_positive else 'or equal to '}0 seconds")
        return found

    return read


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("it should be a text")


def _table(value: object) -> str:
    return _text(table_text(value))


def _address(read: Callable[[str], str]) -> Callable[[object], str]:
    return lambda value: read(_text(value))


def _in_form(pattern: re.Pattern[str], expected: str) -> Callable[[object], str]:
    def judged(value: object) -> str:
        if pattern.fullmatch(text := _text(value)) is None:
            raise ValueError(expected)
        return text

    return judged


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _secret(value: object) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else _text(value)
    # A secret is sent as the value of a header, which cannot hold line breaks (RFC 9110 §5.5).
    if not (text.isascii() and text.isprintable()):
        raise ValueError("it has a line break or another character that HTTP headers cannot hold; copy it again")
    return SecretStr(text)


def _path(value: object) -> Path:
    return _whole(value if isinstance(value, Path) else Path(_text(value)))


def _certificates_in(value: object) -> Path:
    """Return the path of a file of certificates. Raises ValueError for another file."""
    import ssl  # takes 10 ms to load, and hardly anybody has such a file

    path = _path(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one
        why = "it has no certificates" if isinstance(error, ssl.SSLError) else why_unreadable(error)
        raise ValueError(f"{why}; give a file of certificates in PEM form (-----BEGIN CERTIFICATE-----)") from None
    return path


def text_of(secret: SecretStr | None) -> str | None:
    """Return the text of a secret, if there is one."""
    return None if secret is None else secret.get_secret_value()


def _read_by(read: Callable[[Any], object]) -> PlainValidator:
    """Return the validator of a setting whose value this function reads; None stays None."""
    return PlainValidator(lambda value: None if value is None else read(value))


# The types of the settings.
Text = Annotated[str, _read_by(_text)]
Table = Annotated[str | None, _read_by(_table)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
PositiveTimeout = Annotated[timedelta, _read_by(_time(is_timeout=True, is_positive=True))]
Timeout = Annotated[timedelta, _read_by(_time(is_timeout=True))]
"""A timeout. Unlike other durations, it may be a number of seconds without a unit."""
Duration = Annotated[timedelta, _read_by(_time())]
Secret = Annotated[SecretStr | None, _read_by(_secret)]
Networks = Annotated[tuple[Network, ...], _read_by(read_networks)]
File = Annotated[Path | None, _read_by(_path)]
Queue = Annotated[
    str, _read_by(_in_form(QUEUE_NAME, "give 1 to 16 characters of a-z, 0-9 and -, and do not begin with -"))
]
# 8x8 documents this form of a sub-account id.
SubAccount = Annotated[str | None, _read_by(_in_form(SUB_ACCOUNT_ID, "give 3 to 50 letters, digits, -, ., _ or &"))]
Outcomes = Annotated[Literal["webhook", "none"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["console", "json"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)]


_HEADER = re.compile(
    r"(?i)(?!(accept|content|sec)(-|$)|(authorization|connection|cookie|forwarded|host|origin|referer|user-agent|via"
    r"|x-forwarded-(for|host|port|prefix|proto|server)|x-real-ip)$)[a-z][a-z0-9]*(-[a-z0-9]+)*"
)
HeaderName = Annotated[
    str | None,
    _read_by(
        _in_form(_HEADER, "give the name of a header that your proxy sets on each request, such as X-Forwarded-User")
    ),
]


def _listed(value: object) -> tuple[str, ...]:
    """Return the parts of a text with commas between, or of a list of texts."""
    parts = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    return tuple(text for part in parts if (text := str(part).strip()))


class PlaceSource(PydanticBaseSettingsSource):
    """The settings in one place, or in the files that it names. What a more important place has is not read."""

    def __init__(self, kind: type[BaseSettings], given: Mapping[str, _Given], found: dict[str, _Given]) -> None:
        super().__init__(kind)
        self._place = given
        self._found = found

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - as asked
        """Return the value of a setting, read from its file if it is in one. Raises SettingsError."""
        return self._place[field_name].read(), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values of the settings that this place has."""
        values: dict[str, Any] = {}
        for name, given in self._place.items():
            if name in self._found:
                continue
            self._found[name] = given
            if given is _LEFT_OUT:
                continue
            try:
                values[name] = given.read()
            except SettingsError as error:
                raise _wrong(str(error), name) from None
        return values


class Settings(BaseSettings):
    """All settings, read and checked, from `load_settings`. The repr does not show secrets."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True
    )

    store: Text = "sqlite:///voiceflow.db"
    queue: Queue = "default"
    api_key: Secret = None
    sub_account: SubAccount = None
    source: Table = None
    voice_profile: Annotated[str | None, _read_by(_text)] = None
    window: Table = None
    """The hours in which phones may ring, of campaigns that say none."""
    rate: Annotated[float | None, _read_by(read_rate)] = 10.0
    """Calls per second over all workers of the queue; None is unlimited."""
    max_active: Count | None = None
    max_per_person: Annotated[PersonLimit | None, _read_by(read_person_limit)] = None
    """The most attempts to call one person within a span of time, over all batches of the queue."""
    redial_on: Annotated[tuple[str, ...], _read_by(redial_words)] = ()
    webhook_secret: Secret = None
    """The whole value of the Authorization header that 8x8 sends with its events."""
    notify_url: Annotated[str | None, _read_by(_address(read_notify_url))] = None
    notify_secret: Secret = None
    ui_secret: Secret = None
    ui_operator_secret: Secret = None
    auth_header: HeaderName = None
    """The header in which a trusted proxy names the person who uses the console."""
    auth_operators: Annotated[tuple[str, ...], _read_by(_listed)] = ()
    """The names of those who may act."""
    api_secret: Secret = None
    """The secret of programs that use the HTTP API of `voiceflow serve --api`."""
    api_secrets: File = None
    """A file with the secrets of several programs, each with a name and rights (`api/secrets.py`)."""
    proxy: Annotated[str | None, _read_by(_address(read_proxy))] = None
    """The proxy through which everything leaves."""
    no_proxy: Annotated[tuple[str, ...], _read_by(read_hosts)] = ()
    """What is reached without the proxy. Loopback addresses never go through it."""
    ca_file: Annotated[Path | None, _read_by(_certificates_in)] = None
    """Certificates to trust beside the public ones."""

    # Advanced: hardly any installation changes these.
    wait_for_store: Timeout = timedelta(seconds=30)
    """The longest wait of a command for a store that is locked or does not exist yet."""
    base_url: Annotated[str | None, _read_by(_address(read_base_url))] = None
    allow_plain_http: bool = False
    burst: Count = 1
    concurrency: Count = 50
    shared_numbers: Annotated[tuple[str, ...], _read_by(read_numbers)] = ()
    """Numbers to which many calls may bridge at once."""
    redial_max: Amount = 1
    redial_after: Annotated[RedialWait, _read_by(read_redial_after)] = timedelta(minutes=30)
    connect_timeout: PositiveTimeout = timedelta(seconds=5)
    read_timeout: PositiveTimeout = timedelta(seconds=30)
    lease: PositiveTimeout = timedelta(seconds=60)
    submit_window: PositiveTimeout = timedelta(seconds=120)
    clock_skew: Timeout = timedelta(seconds=10)
    export_settle: Timeout = timedelta(seconds=60)
    retry_not_created_5xx: bool = False
    outcomes: Outcomes = "webhook"
    summary_deadline: PositiveTimeout = timedelta(hours=2)
    shutdown_grace: Timeout = timedelta(seconds=30)
    webhook_allow: Networks = ()
    api_allow: Networks = ()
    escalations: File = None
    """A TOML file with named policies of escalations."""
    trusted_proxies: Networks = ()
    state_dir: File = None
    retention: Duration = timedelta(days=30)
    key_retention: Duration = timedelta(days=400)
    log_format: LogFormat = "console"
    log_level: LogLevel = "info"
    log_mask: bool = False

    _given: Mapping[str, _Given] = PrivateAttr(default_factory=dict[str, _Given])

    @classmethod
    def settings_customise_sources(  # type: ignore[override] # the others are not used
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the places of the sources that were given, and no environment."""
        sources = getattr(init_settings, "init_kwargs", {}).pop("places", ())
        return (init_settings, *(PlaceSource(settings_cls, *each) for each in sources))

    @classmethod
    def from_all_places(cls, options: dict[str, _Given]) -> Self:
        """Read the settings from these options and all other places. Raises SettingsError."""
        found: dict[str, _Given] = {}
        places = [options, *(_given_in(place, variables) for place, variables in _places().items())]
        settings = cls._read({"places": [(place, found) for place in places]}, found)
        given = {name: each for name, each in found.items() if each is not _LEFT_OUT}
        _check_addresses(settings, given)
        return settings.with_places(given)

    def changed(self, **given: object) -> Self:
        """Return these settings with others in place of some; None counts as not given. Raises SettingsError."""
        read = {name: _Given(value, name, "given directly") for name, value in given.items() if value is not None}
        new = self._read({name: each.value for name, each in read.items()}, read)
        return self.model_copy(update={name: getattr(new, name) for name in read}).with_places({**self._given, **read})

    def with_places(self, given: Mapping[str, _Given]) -> Self:
        """Note where each setting comes from. Raises SettingsError if settings contradict each other."""
        self._given = given
        _check_together(self)
        return self

    @classmethod
    def _read(cls, values: Mapping[str, Any], given: Mapping[str, _Given]) -> Self:
        """Read and check settings. Raises SettingsError, with a finding for each wrong one."""
        try:
            return cls(**values)
        except ValidationError as error:
            wrong = {str(each["loc"][0]): each for each in reversed(error.errors(include_url=False))}
            names = sorted(wrong, key=(*NAMES, *wrong).index)
            findings = [_problem(name, given[name], _reason(name, wrong[name])) for name in names]
        raise SettingsError("; ".join(each.message for each in findings)).found(*findings)

    def __repr__(self) -> str:
        """Return the settings, but for addresses: these may hold a password, or a token of another system."""
        shown = (name for name in defaults() if name not in _ADDRESSES)
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    __str__ = __repr__

    def policy(self) -> CallPolicy:
        """Return the call policy of these settings."""
        return CallPolicy(
            submit_window=self.submit_window,
            clock_skew=self.clock_skew,
            summary_deadline=self.summary_deadline,
            retention=self.retention,
            key_retention=self.key_retention,
            outcomes=OutcomeSource(self.outcomes),
            export_settle=self.export_settle,
            shared_numbers=frozenset(self.shared_numbers),
            max_per_person=self.max_per_person,
        )

    @property
    def calls_a_sandbox(self) -> bool:
        """True if calls go to this machine instead of 8x8: a sandbox, which reaches any address of this network."""
        return self.base_url is not None and is_this_machine(self.base_url)

    def state_folder(self) -> Path:
        """Return the folder for the files of this machine: `state_dir`, else the user's state folder (XDG)."""
        if self.state_dir is not None:
            return self.state_dir
        given = os.environ.get("XDG_STATE_HOME", "")
        try:
            base = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
        except RuntimeError:
            raise SettingsError(f"this user has no home directory: set {PREFIX}STATE_DIR to a folder") from None
        return base / "voiceflow"

    def missing_for_calls(self) -> tuple[str, ...]:
        """Return the settings that are missing for requests to 8x8, each as a clause with its remedy."""
        key = f"the API key is missing: set {PREFIX}API_KEY, or {PREFIX}API_KEY_FILE to a file that holds it"
        sub_account = f"the sub-account is missing: set {PREFIX}SUB_ACCOUNT to its id"
        return tuple(why for why, value in ((key, self.api_key), (sub_account, self.sub_account)) if value is None)

    def place_of(self, name: str) -> str | None:
        """Return the place of a setting, such as `VOICEFLOW_RATE (.env)`; None for a default."""
        given = self._given.get(name)
        return None if given is None else str(given)

    def secret_values(self, name: str) -> tuple[str, ...]:
        """Return the values of a secret, the new one first; none without a secret.

        Raises SettingsError for one that can be guessed.
        """
        text = text_of(getattr(self, name))
        values = () if text is None else both_values(text)
        if why := next(filter(None, map(why_guessable, values)), None):
            raise SettingsError(f"{PREFIX}{name.upper()} {why}")
        return values

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that logs must hide. Short ones are left out, because they may be parts of words."""
        found = (getattr(self, name) for name in NAMES)
        whole = [each.get_secret_value() for each in found if isinstance(each, SecretStr)]
        texts = [text for each in whole for text in dict.fromkeys((each, *both_values(each)))]
        if self.proxy is not None and (credentials := Proxy.of(self.proxy).credentials) is not None:
            texts.append(credentials[1])
        return tuple(text for text in texts if len(text) >= SHORTEST_HIDDEN)

    def shown(self) -> tuple[ShownSetting, ...]:
        """Every setting for people, in the order of this class, with secrets hidden."""
        names = list(defaults())
        return tuple(
            ShownSetting(
                variable=PREFIX + name.upper(),
                value=_shown_value(name, getattr(self, name)),
                place=self.place_of(name) or DEFAULT,
                is_advanced=names.index(name) >= names.index(_FIRST_ADVANCED),
            )
            for name in names
        )


NAMES = tuple(Settings.model_fields)
"""The names of all settings, in the order of the class."""


def defaults() -> dict[str, Any]:
    """Return every setting, in the order of the class, with its default."""
    return {name: field.default for name, field in Settings.model_fields.items()}


_REASONS = {"int": "give a whole number", "bool": "give yes or no"}
"""What a type expects, by the first word of pydantic's name for its errors."""


def _reason(name: str, error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return f"is not a setting{did_you_mean(name, NAMES)}"
    reason = _REASONS.get(error["type"].partition("_")[0])
    said = str(error.get("ctx", {}).get("error") or error["msg"])
    return reason or said.replace("Input should", "it should")


def load_settings(
    without: Callable[[str], None] | None = None, /, *, options_place: str | None = None, **options: object
) -> Settings:
    """Return the settings from options, the environment, `.env` and defaults, in that order.

    An option that is None counts as not given; `rate="unlimited"` lifts the limit. Raises SettingsError, which names
    every wrong setting with its place, its expected form, and its value unless that is a secret. `options_place` is the
    place of the options in such an error if they are no options of a command, for example a connection.

    What needs the store and the queue alone does `without` other wrong settings: it gets each problem, and the
    setting has its default.
    """
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            option = "--" + name.replace("_", "-")
            shown, place = (option, "given directly") if options_place is None else (name, options_place)
            given[name] = _Given(value, shown, place)
    needed = {"store", "queue", *given}
    while True:
        try:
            return Settings.from_all_places(given)
        except SettingsError as error:
            wrong = {each.column for each in error.findings if each.column is not None}
            if without is None or not wrong or wrong & needed:
                raise
            for message in dict.fromkeys(each.message for each in error.findings):
                without(message)
            given |= dict.fromkeys(wrong, _LEFT_OUT)


_LEFT_OUT = _Given(None, "", DEFAULT)
"""For a setting that has its default, whatever is given elsewhere."""


def _wrong(message: str, *names: str) -> SettingsError:
    """Return the error about these settings."""
    return SettingsError(message).found(*(Finding(column=name, message=message) for name in names))


def unknown_variables() -> tuple[UnknownVariable, ...]:
    """Return the unknown names among the settings in the environment and `.env`. Raises SettingsError."""
    names = [name.upper() for name in NAMES]
    known = {PREFIX + name + suffix for name in names for suffix in ("", "_FILE")}
    unknown: list[UnknownVariable] = []
    for place, variables in _places().items():
        for name in variables:
            if name.startswith(PREFIX) and name not in known and not _OF_KUBERNETES.fullmatch(name):
                # Compared without the prefix, which would make all names similar.
                close = get_close_matches(name.removeprefix(PREFIX), names, n=1)
                unknown.append(UnknownVariable(name, place, suggestion=PREFIX + close[0] if close else None))
    return tuple(unknown)


def _shown_value(name: str, value: object) -> str:
    match value:
        case None if name == "rate":
            return "unlimited"
        case None | ():
            return ""
        case str() if name == "notify_url":
            return without_secrets(value) + ("?(hidden)" if "?" in value else "")
        case SecretStr():
            return "(hidden)"
        case bool():
            return "yes" if value else "no"
        case timedelta() | Mapping():
            return write_redial_after(cast("RedialWait", value))
        case tuple():
            return ", ".join(map(str, cast("tuple[object, ...]", value)))
        case _:
            return without_secrets(str(value), options=True) if name in _ADDRESSES else str(value)


def _check_together(settings: Settings) -> None:
    """Raise SettingsError if settings contradict each other."""
    waits = settings.redial_after
    lacks = [on.lower() for on in settings.redial_on if isinstance(waits, Mapping) and on not in waits]
    if lacks:
        names = ("redial_on", "redial_after")
        where = " and ".join(filter(None, map(settings.place_of, names)))
        raise _wrong(f"{where}: {', '.join(lacks)} has no wait before its redial: give it one", *names)


_LEADS_AWAY = {
    "api_key": ("an API key", ("base_url", "allow_plain_http", "proxy", "ca_file")),
    "notify_secret": (f"a {PREFIX}NOTIFY_SECRET", ("notify_url", "allow_plain_http", "proxy", "ca_file")),
}
"""The settings that say where a secret is sent, and who may read it on the way; each secret in words."""


def _check_addresses(settings: Settings, given: Mapping[str, _Given]) -> None:
    """Raise SettingsError if .env says where a secret is sent that was set elsewhere.

    A folder in which somebody runs a command must not lead the key of the environment to another address.
    """
    for secret, (shown, addresses) in _LEADS_AWAY.items():
        own = given.get(secret)
        if own is None or own.place == ENV_FILE:
            continue
        for name in addresses:
            found = given.get(name)
            if found is not None and found.place == ENV_FILE and getattr(settings, name):
                message = (
                    f"{found} does not apply to {shown} from another place ({own.place}): set both in the same place"
                )
                raise _wrong(message, name)


def _problem(name: str, found: _Given, reason: str) -> Finding:
    is_hidden = found.in_file or name in {"notify_url", "proxy"} or name.endswith(("_key", "_secret"))
    text = str(found.value)
    said = without_secrets(text, options=True) if name in _ADDRESSES else text
    value = "" if is_hidden else f" is {said!r}"
    if reason.startswith("is not a setting"):
        return Finding(column=name, message=f"{found.name} {reason}")
    source = f"{found.place}, read from {found.value}" if found.in_file else found.place
    return Finding(column=name, message=f"{found.name}{value} ({source}): {reason}")
