"""The settings: one frozen value, read once, from the environment and `.env`."""

import hmac
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from experiment_engine.adapters.calling.provider import Provider, header_value, origin
from experiment_engine.adapters.providers import PROVIDERS
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.rules import CLEVERTAP

Region = Literal["in1", "sg1", "us1", "aps3", "mec1", "eu1"]
AmplitudeRegion = Literal["us", "eu"]
LogFormat = Literal["console", "json"]

SCOPES = ("trigger", "engagement", "conversion", "stats", "admin")

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_HIGHEST_PORT = 65_535
_SQLITE = "sqlite:///"
_SQLITE_EXAMPLE = f"{_SQLITE}data/experiment_engine.db"
_POSTGRESQL = ("postgresql://", "postgres://")
_POSTGRESQL_EXAMPLE = "postgresql://user:password@host:5432/name"


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that opens a door, and what it is for; it never shows when printed."""

    token: SecretStr
    scopes: frozenset[str] | None = None  # None: everything

    def matches(self, presented: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.token.get_secret_value().encode(), presented)

    def mark(self, key: bytes) -> str:
        """Return what the secret is known by where it must not be written: a keyed digest."""
        return hmac.new(key, self.token.get_secret_value().encode(), "sha256").hexdigest()

    def reveal(self) -> bytes:
        """Return the secret itself, to check a signature with it."""
        return self.token.get_secret_value().encode()


def _written(read: Callable[[str], object]) -> BeforeValidator:
    """Read what a person wrote; a program's own value is checked by its type alone."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _host(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value):
            raise ValueError(
                f'"{value}" is no address: write an IP address or a host name, such as 127.0.0.1'
            ) from None
    return value


def _port(value: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", value) and int(value) <= _HIGHEST_PORT:
        return int(value)
    raise ValueError(f'"{value}" is no port: write a number from 0 (any free port) to 65535')


def _database_url(value: str) -> str:
    # What is wrong is not repeated: an address may hold a password.
    if value.startswith(_POSTGRESQL):
        return _postgresql_url(value)
    path = value.removeprefix(_SQLITE)
    if not value.startswith(_SQLITE) or not path.strip("/") or path.endswith("/"):
        raise ValueError(
            f"not an address of a database: write {_SQLITE_EXAMPLE} (four slashes before an"
            f" absolute path), or {_POSTGRESQL_EXAMPLE}"
        )
    if "?" in path or path == ":memory:" or not path.isprintable():
        raise ValueError(f"the database is a plain file, without options: write {_SQLITE_EXAMPLE}")
    return value


def _postgresql_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        somewhere = bool(parts.hostname) or "host=" in parts.query  # a socket's folder
        fits = somewhere and bool(parts.path.strip("/")) and not parts.fragment
        _ = parts.port  # raises if it is no number
    except ValueError:
        fits = False
    if not fits or not value.isprintable() or " " in value:
        raise ValueError(
            f"not an address of a PostgreSQL database: write {_POSTGRESQL_EXAMPLE}, with special"
            " characters of the password as %XX"
        )
    return "postgresql://" + value.partition("://")[2]


def _log_format(value: str) -> str:
    return _one_of(value, get_args(LogFormat))


def _region(value: str) -> str:
    return _one_of(value, get_args(Region))


def _amplitude_region(value: str) -> str:
    return _one_of(value, get_args(AmplitudeRegion))


def _one_of(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f'"{value}" is not known: write one of {", ".join(allowed)}')
    return value


def _switch(value: str) -> bool:
    return _one_of(value, ("0", "1")) == "1"


def _folder(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:  # a home that nobody has
        return Path(value)


def _credentials(value: str) -> tuple[Credential, ...]:
    entries = [entry.strip() for entry in value.split(",")]
    credentials = [_credential(entry, place) for place, entry in enumerate(entries, start=1)]
    if len({credential.token for credential in credentials}) < len(credentials):
        raise ValueError("the same secret stands in it twice: keep one of the two")
    return tuple(credentials)


def _credential(entry: str, place: int) -> Credential:
    # Nothing of the entry is repeated: what looks like a scope may be part of a secret.
    prefix, colon, token = entry.partition(":")
    scopes = frozenset(prefix.split("+")) if colon else None
    if scopes is not None and not scopes <= set(SCOPES):
        raise ValueError(
            f'entry {place} has ":" after something that is no scope: write the secret alone, or'
            f" scope+scope:secret with scopes of {', '.join(SCOPES)}"
        )
    secret = token if colon else entry
    if not secret:
        raise ValueError(f"entry {place} is empty: write secrets with one comma between two")
    if not _fits_a_header(secret):
        raise ValueError(
            f"entry {place} has a blank or a special character inside: use letters, digits and"
            " signs of the keyboard"
        )
    return Credential(SecretStr(secret), scopes)


def _fits_a_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value


# CleverTap's own are fields below; those of the other providers are read as their folders say.
_PARTNERS = [provider for provider in PROVIDERS.values() if provider.name != CLEVERTAP]
_READERS = {name: read for provider in _PARTNERS for name, read in provider.settings.items()}

Credentials = Annotated[tuple[Credential, ...], _written(_credentials)]


class Settings(BaseModel):
    """How this process runs. What is said to users about each stands in `.env.example`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Annotated[str, _written(_host)] = "127.0.0.1"
    port: Annotated[int, _written(_port)] = 3001
    database_url: Annotated[str, _written(_database_url), Field(repr=False)] = _SQLITE_EXAMPLE
    engine_config: Annotated[Path | None, _written(_folder)] = None  # None: the example
    clevertap_account_id: Annotated[str, _written(header_value), Field(repr=False)] = ""
    clevertap_passcode: Annotated[str, _written(header_value), Field(repr=False)] = ""
    clevertap_region: Annotated[Region, _written(_region)] = "in1"
    clevertap_base_url: Annotated[str | None, _written(origin)] = None
    amplitude_api_key: Annotated[str, _written(header_value), Field(repr=False)] = ""
    amplitude_secret_key: Annotated[str, _written(header_value), Field(repr=False)] = ""
    amplitude_region: Annotated[AmplitudeRegion, _written(_amplitude_region)] = "us"
    amplitude_export_url: Annotated[str | None, _written(origin)] = None
    amplitude_base_url: Annotated[str | None, _written(origin)] = None
    amplitude_tell: Annotated[bool, _written(_switch)] = False
    api_token: Credentials = ()
    amplitude_webhook_secret: Credentials = ()
    clevertap_webhook_secret: Credentials = ()
    segment_webhook_secret: Credentials = ()
    rudderstack_webhook_secret: Credentials = ()
    posthog_webhook_secret: Credentials = ()
    backend_webhook_secret: Credentials = ()
    meta_webhook_secret: Credentials = ()
    meta_verify_token: Annotated[str, _written(header_value), Field(repr=False)] = ""
    log_format: Annotated[LogFormat | None, _written(_log_format)] = None
    start_paused: Annotated[bool, _written(_switch)] = False
    partners: Annotated[Mapping[str, str], Field(repr=False)] = {}  # of providers, by their names

    @model_validator(mode="after")
    def _account_is_whole(self) -> Self:
        if bool(self.clevertap_account_id) != bool(self.clevertap_passcode):
            there, missing = "CLEVERTAP_ACCOUNT_ID", "CLEVERTAP_PASSCODE"
            if self.clevertap_passcode:
                there, missing = missing, there
            raise ValueError(
                f"{missing}: is missing while {there} is set: set both to send,"
                " or neither for a dry run"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_whole(self) -> Self:
        used = self.amplitude_secret_key or self.amplitude_tell
        if self.amplitude_api_key and not used:
            raise ValueError(
                "AMPLITUDE_SECRET_KEY: is missing while AMPLITUDE_API_KEY is set: set both to"
                " fetch exports, or AMPLITUDE_TELL=1 to tell of experiments"
            )
        if used and not self.amplitude_api_key:
            there = "AMPLITUDE_SECRET_KEY" if self.amplitude_secret_key else "AMPLITUDE_TELL"
            raise ValueError(
                f"AMPLITUDE_API_KEY: is missing while {there} is set: set it to the project's, or"
                f" leave {there} out"
            )
        return self

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        names = ("api_token", "amplitude_webhook_secret", "clevertap_webhook_secret")
        missing = [name.upper() for name in names if not getattr(self, name)]
        if missing and not self.is_loopback:
            raise ValueError(
                f'HOST: "{self.host}" can be reached from elsewhere: set {", ".join(missing)} too,'
                " or HOST=127.0.0.1"
            )
        return self

    @property
    def connected(self) -> frozenset[str]:
        """Return the names of the providers for which there are credentials."""
        return frozenset(
            provider.name
            for provider in PROVIDERS.values()
            if all(self.settings_of(provider).get(name) for name in provider.required)
        )

    def settings_of(self, provider: Provider) -> Mapping[str, str]:
        """Return what a provider is opened with, by the names of the environment."""
        own = {name: getattr(self, name.lower(), None) for name in provider.settings}
        given = {name: value for name, value in own.items() if isinstance(value, str)}
        return given | {name: v for name, v in self.partners.items() if name in provider.settings}

    def secrets(self, setting: str) -> tuple[Credential, ...]:
        """Return what a setting such as `API_TOKEN` holds."""
        secrets: tuple[Credential, ...] = getattr(self, setting.lower())
        return secrets

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def open_at(self, host: str) -> None:
        """Raise ConfigurationError if nothing may listen at this address with these secrets."""
        try:
            Settings(**{**dict(self), "host": host})
        except ValidationError as error:
            raise _mistake(error) from None

    @property
    def is_sqlite(self) -> bool:
        """Say whether the database is the embedded one, with one writing process."""
        return self.database_url.startswith(_SQLITE)

    @property
    def database_path(self) -> Path:
        """Return where the SQLite database lies; relative to the working directory."""
        return Path(self.database_url.removeprefix(_SQLITE))


_NEARLY = 0.88  # one letter too many or too few; not another program's name that is alike

# Every name that is read from the environment.
SETTINGS = frozenset(map(str.upper, Settings.model_fields)) - {"PARTNERS"} | _READERS.keys()


def read_settings(environ: Mapping[str, str], env_file: Path | None = Path(".env")) -> Settings:
    """Read the settings; the environment wins over the file, also where it is empty.

    Raises ConfigurationError with one line that names the setting and the mend, never a secret.
    """
    given = {**(_read_env_file(env_file) if env_file is not None else {}), **environ}
    values: dict[str, Any] = {
        name: value
        for name in Settings.model_fields
        if name.upper() in SETTINGS and (value := given.get(name.upper(), "").strip())
    }
    values["partners"] = _read_partners(given)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise _mistake(error) from None


def misspelt(env_file: Path = Path(".env")) -> dict[str, str]:
    """Return names in the file that are no setting but nearly one, each with that one."""
    near = {
        name: get_close_matches(name.upper(), SETTINGS, 1, _NEARLY)
        for name in _read_env_file(env_file)
        if name.upper() not in SETTINGS
    }
    return {name: found[0] for name, found in near.items() if found}


def _read_partners(given: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name in _READERS if (value := given.get(name, "").strip())}
    for name, value in found.items():
        try:
            _READERS[name](value)
        except ValueError as error:
            raise _in_one_line(f"{name}: {error}") from None
    for provider in _PARTNERS:
        missing = [name for name in provider.required if name not in found]
        there = next((name for name in provider.required if name in found), None)
        if missing and there is not None:
            raise ConfigurationError(
                f"{missing[0]}: is missing while {there} is set: set"
                f" {' and '.join(provider.required)} to send, or nothing of it"
            )
    return found


def _mistake(error: ValidationError) -> ConfigurationError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    line = f"{str(first['loc'][0]).upper()}: {text}" if first["loc"] else text
    return _in_one_line(line)


def _in_one_line(text: str) -> ConfigurationError:
    return ConfigurationError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def _read_env_file(path: Path) -> dict[str, str]:
    if not path.is_file():  # also where `.env` is a folder, as some virtual environments are
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path.name}: not UTF-8: save the file as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path.name}: cannot be read: {error.strerror}") from None
    return dict(_lines(path.name, text))


def _lines(file: str, text: str) -> Iterator[tuple[str, str]]:
    # Read without python-dotenv's own loading: that skips a line it cannot read, so that a token
    # with a missing quote mark would leave the door open, and it fills in ${...} by itself.
    for binding in parse_stream(io.StringIO(text)):
        is_setting = binding.key is not None and binding.key.upper() in SETTINGS
        if binding.error or (is_setting and binding.value is None):
            raise ConfigurationError(
                f"{file}: line {binding.original.line}: not understood: write NAME=value,"
                " and close every quote mark"
            )
        if binding.key is not None and binding.value is not None:
            yield binding.key, binding.value
