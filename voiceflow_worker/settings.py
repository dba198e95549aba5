"""The settings, and the only reader of the environment.

A setting is looked for in this order: the options of `load_settings`, the environment (`VOICEFLOW_RATE`), `.env`
(`VOICEFLOW_RATE`), the default. `.env` is that of the working directory. If `VOICEFLOW_ENV_FILE` names a file, it
takes its place: that of a service (`env_file.py`). A name that ends in `_FILE` gives the path of a file that holds the
value (`VOICEFLOW_API_KEY_FILE=/run/secrets/8x8`). An empty value counts as not set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from voiceflow_worker.env_file import SERVICE_FILE, read_env_file
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.jobs.policy import (
    PersonLimit,
    RedialWait,
    read_person_limit,
    read_redial_after,
    redial_words,
    reserve_problem,
    write_redial_after,
)
from voiceflow_worker.model.text.printable import SHORTEST_HIDDEN, without_secrets
from voiceflow_worker.model.text.secret_text import both_values, why_guessable
from voiceflow_worker.model.text.web_address import Proxy, read_base_url, read_notify_url, read_proxy
from voiceflow_worker.model.text.wording import read_rate, table_text, why_unreadable
from voiceflow_worker.setting_kinds import (
    CertificateFile,
    Count,
    Duration,
    Folded,
    Hosts,
    LogLevel,
    Networks,
    Numbers,
    PositiveTimeout,
    Queue,
    Secret,
    SubAccount,
    Text,
    Timeout,
    YesNo,
    text_of,
    yes_or_no,
)
from voiceflow_worker.watched_file import WatchedFile

if TYPE_CHECKING:
    from voiceflow_worker.model.jobs.policy import CallPolicy

PREFIX = "VOICEFLOW_"
ENV_FILE = ".env"
_REFUSED = {
    "region": "8x8 documents one address for voice calls, so a region cannot be chosen: remove this setting. If "
    f"your account manager named another address, set {PREFIX}BASE_URL to that address"
}
"""Settings that some expect but that do not exist, each with a remedy. Loading the settings fails while one is set."""
_LARGEST_FILE = 1_000_000
_ASSIGNMENT = re.compile(r"(?:export\s+)?(?P<name>\w+)\s*[=:]", re.ASCII)
DEFAULT = "the default"
"""The place of a setting that is not set anywhere."""
_FIRST_ADVANCED = "wait_for_store"
"""The first setting, in the order of the class, that hardly any installation changes."""
_OPTIONS = {"notify_url": "--notify"}
"""Options whose names differ from those of their settings."""
_ADDRESSES = frozenset({"store", "base_url", "proxy"})
_SECRETS = frozenset(
    {
        "api_key",
        "api_secret",
        "notify_secret",
        "notify_url",
        "proxy",
        "ui_operator_secret",
        "ui_secret",
        "webhook_secret",
    }
)
_USUAL_NAMES = {
    "proxy": ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
    "no_proxy": ("NO_PROXY", "no_proxy"),
    "ca_file": ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
}
"""Variables of the environment that say for other programs what these settings say here."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, with its name and place. With `in_file`, `value` is the path of its file."""

    value: object
    name: str
    place: str
    in_file: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it comes from the file of the working directory."""
        return self.place == ENV_FILE

    @property
    def path(self) -> Path:
        """The path of its file."""
        return Path(str(self.value).strip()).expanduser()

    def read(self) -> object:
        """The value, from its file if it is in one. Raises SettingsError if it cannot be read there."""
        if not self.in_file:
            # Docker's --env-file leaves the quotes of a value in the environment.
            return _without_quotes(self.value) if isinstance(self.value, str) else self.value
        path = self.path
        try:
            may_be_two = self.name.lower().removesuffix("_file").endswith(_CHANGED)
            return _value_in(_text_of(path), most=2 if may_be_two else 1)
        except (OSError, ValueError) as error:
            why = f"which cannot be read: {why_unreadable(error)}" if _is_unreadable(error) else f"which {error}"
            raise SettingsError(f"{self.name} ({self.place}) names {path}, {why}") from None


def _is_unreadable(error: Exception) -> bool:
    return isinstance(error, OSError | UnicodeDecodeError)


def _encoding_of(path: Path) -> tuple[bytes, str]:
    """The content of a small file, and its encoding: UTF-8, UTF-16 or UTF-32. Raises OSError, ValueError."""
    if path.is_dir():
        raise ValueError("is a directory: name a file in it")
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"is larger than {_LARGEST_FILE} bytes: name the file that holds the value alone")
    encoding = json.detect_encoding(content)
    content.decode(encoding)
    return content, encoding


def _text_of(path: Path) -> str:
    """The text of a small file, without a byte order mark. Raises OSError, ValueError."""
    content, encoding = _encoding_of(path)
    return content.decode(encoding).removeprefix("\ufeff")


_CHANGED = ("webhook_secret", "ui_secret", "ui_operator_secret", "api_secret")
"""The secrets of which two values may stand at once."""


def _value_in(text: str, *, most: int) -> str:
    """The value that is alone in a file, without blanks, line breaks and quotes around it. Raises ValueError.

    If there may be two, they have a line each, and are returned with a comma between them.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("is empty")
    named = _ASSIGNMENT.match(lines[0])
    if named is not None and named["name"].lower().removeprefix(PREFIX.lower()) in Settings.model_fields:
        raise ValueError(f"has {named['name']} and a sign before the value: write the value alone into it")
    if len(lines) > most:
        raise ValueError(f"has {len(lines)} lines: write the value alone into it, on one line")
    return ",".join(map(_without_quotes, lines))


def _without_quotes(text: str) -> str:
    inner = text.strip()
    pair = len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'"
    return inner[1:-1] if pair else text


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """An unknown name among the settings, such as a misspelt name or a setting of another version."""

    name: str
    place: str
    suggestion: str | None

    def in_words(self) -> str:
        """A sentence without a full stop: the name, its place, and the setting that was probably meant."""
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


@dataclass(frozen=True, slots=True)
class _Layer:
    """One place of settings, such as `.env`. It holds a setting under its name, or under its name with `_file`."""

    values: Mapping[str, str]
    place: str

    def given(self) -> dict[str, _Given]:
        """The settings in this place, such as `.env`. Raises SettingsError if both NAME and NAME_FILE are set."""
        given: dict[str, _Given] = {}
        for name in (*Settings.model_fields, *_REFUSED):
            key = PREFIX.lower() + name
            for each in (key, key + "_file"):
                if not (value := self.values.get(each, "")).strip():
                    continue
                if name in given:
                    names = f"{given[name].name} and {each.upper()}"
                    raise SettingsError(f"{names} are both set ({self.place}); keep one of them")
                given[name] = _Given(value, each.upper(), self.place, in_file=each != key)
        return given

    def unknown(self) -> list[UnknownVariable]:
        prefix = PREFIX.lower()
        names = list(Settings.model_fields)
        known = {prefix + name + suffix for name in (*names, *_REFUSED) for suffix in ("", "_file")}
        known.add(SERVICE_FILE.lower())
        unknown: list[UnknownVariable] = []
        for key in self.values:
            if key.startswith(prefix) and key not in known and not _OF_KUBERNETES.fullmatch(key):
                # Compared without the prefix, which would make all names similar.
                close = get_close_matches(key.lower().removeprefix(prefix), names, n=1)
                meant = f"{prefix}{close[0]}".upper() if close else None
                unknown.append(UnknownVariable(key.upper(), self.place, suggestion=meant))
        return unknown


_OF_KUBERNETES = re.compile(
    PREFIX.lower() + r"(\w+_)?(service_host|service_port(_\w+)?|port(_\d+_(tcp|udp|sctp)(_(proto|port|addr))?)?)"
)
"""What Kubernetes tells each pod about a Service that is called voiceflow, which nobody can leave out."""


def _layers() -> tuple[_Layer, ...]:
    """The places of settings, the most important first. Raises SettingsError."""
    environment = _Layer(_lower(os.environ), "the environment")
    if (service := service_file()) is not None:
        return environment, _Layer(_lower(_variables_of(service)), str(service))
    return environment, _Layer(_lower(_variables_here()), ENV_FILE)


def _lower(variables: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in variables.items()}


def service_file() -> Path | None:
    """The file of a service's settings that `VOICEFLOW_ENV_FILE` names; None if it names none. Raises SettingsError."""
    named = os.environ.get(SERVICE_FILE, "").strip()
    if named and not named.startswith("/"):
        raise SettingsError(f"{SERVICE_FILE} is {named!r}: name the file by its whole path, which begins with /")
    return Path(named) if named else None


def _variables_of(file: Path) -> dict[str, str]:
    """The variables in the file of a service's settings. Raises SettingsError."""
    try:
        if file.is_dir():
            raise ValueError("is a directory: name a file in it")
        return read_env_file(file.read_bytes())
    except (OSError, ValueError) as error:
        why = f"which cannot be read: {why_unreadable(error)}" if isinstance(error, OSError) else f"which {error}"
        raise SettingsError(f"{SERVICE_FILE} names {file}, {why}") from None


def export_further_variables() -> None:
    """Put what the file of a service's settings has beside settings into the environment, as systemd does.

    That is such as `OTEL_EXPORTER_OTLP_ENDPOINT` or `PGPASSWORD`. Raises SettingsError.
    """
    if (file := service_file()) is not None:
        further = {name: value for name, value in _variables_of(file).items() if not name.upper().startswith(PREFIX)}
        os.environ.update(further)


def _variables_here() -> dict[str, str]:
    """The variables in `.env` of the working directory; none without one. Raises SettingsError."""
    try:
        _, encoding = _encoding_of(Path(ENV_FILE))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        why = f"cannot be read: {why_unreadable(error)}" if _is_unreadable(error) else str(error)
        raise SettingsError(f"{ENV_FILE} {why}") from None
    from dotenv import dotenv_values  # a command in another directory does not need it

    return {name: value for name, value in dotenv_values(ENV_FILE, encoding=encoding).items() if value is not None}


class Settings(BaseModel):
    """All settings, read and checked, from `load_settings`. The repr does not show secrets."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # Not in the repr, because it may hold a password (redis://:password@host).
    store: Text = Field(default="sqlite:///voiceflow.db", repr=False)
    queue: Queue = "default"
    api_key: Secret | None = None
    sub_account: SubAccount | None = None
    source: Annotated[Text, BeforeValidator(table_text)] | None = None
    voice_profile: Text | None = None
    rate: Annotated[float | None, BeforeValidator(read_rate)] = 10.0
    """Calls per second over all workers of the queue; None is unlimited."""
    max_active: Count | None = None
    reserve: Annotated[int, Field(ge=0)] = 0
    """How many of the most open calls are kept for calls of a priority above 0."""
    max_per_person: Annotated[PersonLimit | None, BeforeValidator(read_person_limit)] = None
    """The most attempts to call one person within a span of time, over all batches of the queue."""
    redial_on: Annotated[tuple[str, ...], BeforeValidator(redial_words)] = ()
    webhook_secret: Secret | None = None
    """The whole value of the Authorization header that 8x8 sends with its events."""
    # Not in the repr, because its query may hold a token of the other system.
    notify_url: Annotated[str, AfterValidator(read_notify_url)] | None = Field(default=None, repr=False)
    notify_secret: Secret | None = None
    ui_secret: Secret | None = None
    ui_operator_secret: Secret | None = None
    api_secret: Secret | None = None
    """The secret of programs that use the HTTP API of `voiceflow serve --api`."""
    api_secrets: Path | None = None
    """A file with the secrets of several programs, each with a name and rights (`api/secrets.py`)."""
    # Not in the repr, because it may hold a password.
    proxy: Annotated[str, AfterValidator(read_proxy)] | None = Field(default=None, repr=False)
    """The proxy through which everything leaves."""
    no_proxy: Hosts = ()
    """What is reached without the proxy. Loopback addresses never go through it."""
    ca_file: CertificateFile | None = None
    """Certificates to trust beside the public ones."""

    # Advanced: hardly any installation changes these.
    wait_for_store: Timeout = timedelta(seconds=30)
    """The longest wait of a command for a store that is locked or does not exist yet."""
    base_url: Annotated[str, AfterValidator(read_base_url)] | None = None
    allow_plain_http: YesNo = "no"
    burst: Count = 1
    concurrency: Count = 50
    shared_numbers: Numbers = ()
    """Numbers to which many calls may bridge at once."""
    redial_max: Annotated[int, Field(ge=0)] = 1
    redial_after: Annotated[RedialWait, BeforeValidator(read_redial_after)] = timedelta(minutes=30)
    connect_timeout: PositiveTimeout = timedelta(seconds=5)
    read_timeout: PositiveTimeout = timedelta(seconds=30)
    lease: PositiveTimeout = timedelta(seconds=60)
    submit_window: PositiveTimeout = timedelta(seconds=120)
    clock_skew: Timeout = timedelta(seconds=10)
    export_settle: Timeout = timedelta(seconds=60)
    retry_not_created_5xx: bool = False
    outcomes: Annotated[Literal["webhook", "none"], Folded] = "webhook"
    summary_deadline: PositiveTimeout = timedelta(hours=2)
    shutdown_grace: Timeout = timedelta(seconds=30)
    webhook_allow: Networks = ()
    api_allow: Networks = ()
    escalations: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    """A TOML file with named policies of escalations."""
    trusted_proxies: Networks = ()
    state_dir: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    retention: Duration = timedelta(days=30)
    key_retention: Duration = timedelta(days=400)
    log_format: Annotated[Literal["console", "json"], Folded] = "console"
    log_level: Annotated[LogLevel, Folded] = "info"

    _given: dict[str, _Given] = PrivateAttr(default_factory=dict[str, _Given])

    @model_validator(mode="wrap")
    @classmethod
    def _from_all_places(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        given = dict(cast("Mapping[str, _Given]", data))
        places = [layer.given() for layer in _layers()]
        if service_file() is not None:
            _check_service(*places, is_named="store" in given)
        for place in places:
            given = place | given
        refused = [f"{given[name].name} ({given[name].place}): {_REFUSED[name]}" for name in _REFUSED if name in given]
        if refused:
            raise SettingsError("; ".join(refused))
        try:
            settings = handler({name: value.read() for name, value in given.items()})
        except ValidationError as error:
            # `from None`, because pydantic's own error could show a secret.
            raise SettingsError(_sentence(error, given)) from None
        settings._given = given  # noqa: SLF001 (its own class)
        _check_redials(settings)
        if problem := reserve_problem(settings.reserve, settings.max_active):
            raise SettingsError(f"{settings.place_of('reserve')}: {problem}")
        _check_addresses(given)
        return settings

    def policy(self) -> CallPolicy:
        """The call policy of these settings."""
        from voiceflow_worker.model.jobs.policy import CallPolicy, OutcomeSource

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

    def state_folder(self) -> Path:
        """The folder for the files of this machine: `state_dir`, else the user's state folder (XDG)."""
        if self.state_dir is not None:
            return self.state_dir
        given = os.environ.get("XDG_STATE_HOME", "")
        try:
            base = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
        except RuntimeError:
            raise SettingsError(f"this user has no home directory: set {PREFIX}STATE_DIR to a folder") from None
        return base / "voiceflow"

    def missing_for_calls(self) -> tuple[str, ...]:
        """The settings that are missing for requests to 8x8, each as a clause with its remedy."""
        missing: list[str] = []
        if self.api_key is None:
            missing.append(
                f"the API key is missing: set {PREFIX}API_KEY, or {PREFIX}API_KEY_FILE to a file that holds it"
            )
        if self.sub_account is None:
            missing.append(f"the sub-account is missing: set {PREFIX}SUB_ACCOUNT to its id")
        return tuple(missing)

    def place_of(self, name: str) -> str | None:
        """The place of a setting, such as `VOICEFLOW_RATE (.env)`; None for a default."""
        given = self._given.get(name)
        return None if given is None else f"{given.name} ({given.place})"

    def of_service(self, name: str) -> str | None:
        """The place of a setting that comes from the file of a service; None if it comes from elsewhere."""
        given = self._given.get(name)
        return self.place_of(name) if given is not None and given.place == str(service_file()) else None

    def live_secret(self, name: str) -> Callable[[], Sequence[str]] | None:
        """The values of a secret as they are now; None without one. One that is in a file is read again with it.

        Raises SettingsError for one that can be guessed.
        """
        text = text_of(getattr(self, name))
        if text is None:
            return None

        def checked(text: str) -> tuple[str, ...]:
            values = both_values(text)
            if why := next(filter(None, map(why_guessable, values)), None):
                raise SettingsError(f"{PREFIX}{name.upper()} {why}")
            return values

        values, given = checked(text), self._given.get(name)
        if given is None or not given.in_file:
            return lambda: values
        return WatchedFile(given.path, lambda: checked(str(given.read())), first=values)

    def secrets(self) -> tuple[str, ...]:
        """The secrets that logs must hide. Short ones are left out, because they may be parts of words."""
        found = (getattr(self, name) for name in type(self).model_fields)
        whole = [each.get_secret_value() for each in found if isinstance(each, SecretStr)]
        texts = [text for each in whole for text in dict.fromkeys((each, *both_values(each)))]
        if self.proxy is not None and (credentials := Proxy.of(self.proxy).credentials) is not None:
            texts.append(credentials[1])
        return tuple(text for text in texts if len(text) >= SHORTEST_HIDDEN)

    def unread_names(self) -> dict[str, tuple[str, ...]]:
        """The variables that say for other programs what a setting without a value says here. They are not followed."""
        return {
            setting: tuple(name for name in names if os.environ.get(name))
            for setting, names in _USUAL_NAMES.items()
            if not getattr(self, setting)
        }

    def shown(self) -> tuple[ShownSetting, ...]:
        """Every setting for people, in the order of this class, with secrets hidden."""
        names = list(type(self).model_fields)
        return tuple(
            ShownSetting(
                variable=PREFIX + name.upper(),
                value=_shown_value(name, getattr(self, name)),
                place=self.place_of(name) or DEFAULT,
                is_advanced=names.index(name) >= names.index(_FIRST_ADVANCED),
            )
            for name in names
        )


def load_settings(*, options_place: str | None = None, **options: object) -> Settings:
    """The settings from options, the environment, `.env` and defaults, in that order.

    An option that is None counts as not given; `rate="unlimited"` lifts the limit. Raises SettingsError, which names
    every wrong setting with its place, its expected form, and its value unless that is a secret. `options_place` is the
    place of the options in such an error if they are no options of a command, for example a connection.
    """
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
            shown, place = (option, "given directly") if options_place is None else (name, options_place)
            given[name] = _Given(value, shown, place)
    return Settings(**given)


def unknown_variables() -> tuple[UnknownVariable, ...]:
    """The unknown names among the settings in the environment and `.env`."""
    return tuple(unknown for layer in _layers() for unknown in layer.unknown())


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
            return _shown_text(name, str(value))


def _check_redials(settings: Settings) -> None:
    """Raise SettingsError if an outcome to call again after has no wait."""
    if lacks := [
        on
        for on in settings.redial_on
        if isinstance(settings.redial_after, Mapping) and on not in settings.redial_after
    ]:
        where = " and ".join(filter(None, map(settings.place_of, ("redial_on", "redial_after"))))
        raise SettingsError(f"{where}: {', '.join(lacks).lower()} has no wait before its redial: give it one")


_LEADS_AWAY = {
    "api_key": ("an API key", ("base_url", "allow_plain_http", "proxy", "ca_file")),
    "notify_secret": (f"a {PREFIX}NOTIFY_SECRET", ("notify_url", "allow_plain_http", "proxy", "ca_file")),
}
"""The settings that say where a secret is sent, and who may read it on the way; each secret in words."""


def _check_addresses(given: Mapping[str, _Given]) -> None:
    """Raise SettingsError if .env says where a secret is sent that was set elsewhere.

    A folder in which somebody runs a command must not lead the key of the environment to another address.
    """
    for secret, (shown, addresses) in _LEADS_AWAY.items():
        own = given.get(secret)
        if own is None or own.is_here:
            continue
        for name in addresses:
            found = given.get(name)
            if found is None or not found.is_here or (name == "allow_plain_http" and not _allows(found)):
                continue
            raise SettingsError(
                f"{found.name} ({found.place}) does not apply to {shown} from another place ({own.place}): set both "
                "in the same place"
            )


def _allows(given: _Given) -> bool:
    return yes_or_no(given.read()) == "yes"


def _check_service(environment: Mapping[str, _Given], service: Mapping[str, _Given], *, is_named: bool) -> None:
    """Raise SettingsError unless a service's file means the same store and the same secrets in every directory.

    `is_named` is True if an option names the store.
    """
    for found in service.values():
        if found.in_file and not str(found.value).strip().startswith(("/", "~")):
            raise SettingsError(
                f"{found.name} ({found.place}) is {found.value!r}, which is another file in each directory: name its "
                "whole path"
            )
    if not is_named:
        _check_one_store(environment, service)


def _check_one_store(environment: Mapping[str, _Given], service: Mapping[str, _Given]) -> None:
    """Raise SettingsError unless the environment and a service's file name one store."""
    here, theirs = environment.get("store"), service.get("store")
    if theirs is None:
        if here is not None:
            return
        raise SettingsError(
            f"{service_file()} names no store, and each command would open one in its own directory: set {PREFIX}STORE "
            f"in it, such as sqlite:////var/lib/voiceflow/calls.db, or {PREFIX}STORE_FILE"
        )
    url = str(theirs.read())
    if url.partition(":")[0].lower() in {"sqlite", "file"} and not url.partition(":")[2].startswith("////"):
        raise SettingsError(
            f"{theirs.name} ({theirs.place}) is {without_secrets(url)}, which is another file in each directory: name "
            "its whole path, such as sqlite:////var/lib/voiceflow/calls.db"
        )
    if here is not None and here.read() != theirs.read():
        raise SettingsError(
            f"{here.name} ({here.place}) and {theirs.name} ({theirs.place}) name two stores: take one of them out, or "
            "name the store with --store"
        )


def _shown_text(name: str, text: str) -> str:
    return without_secrets(text, options=True) if name in _ADDRESSES else text


_WORDS = {
    **dict.fromkeys(("bool_parsing", "bool_type"), "give yes or no"),
    **dict.fromkeys(("int_from_float", "int_parsing", "int_type"), "give a whole number"),
}
"""Clauses that replace messages of pydantic, by the type of the error."""


def _sentence(error: ValidationError, given: Mapping[str, _Given]) -> str:
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        found = given[name]
        if problem["type"] == "extra_forbidden":
            lines.append(f"{found.name} is not a setting")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        reason = _WORDS.get(problem["type"], message.replace("Input should be", "it should be"))
        hidden = name in _SECRETS or found.in_file
        said = "" if hidden else f" is {_shown_text(name, str(found.value))!r}"
        source = f"{found.place}, read from {found.value}" if found.in_file else found.place
        lines.append(f"{found.name}{said} ({source}): {reason}")
    return "; ".join(lines)
