"""The settings come from the environment and `.env`; a wrong one stops the start in one line."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from experiment_engine.adapters.providers import PROVIDERS
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.settings import SCOPES, SETTINGS, Credential, Settings, read_settings

SECRET = "s3cr3t-of-ours"
ALL_SECRETS = {
    name: f"{name}-{SECRET}"
    for name in ("API_TOKEN", "AMPLITUDE_WEBHOOK_SECRET", "CLEVERTAP_WEBHOOK_SECRET")
}
ACCOUNT = {"CLEVERTAP_ACCOUNT_ID": "TEST-ACC", "CLEVERTAP_PASSCODE": SECRET}


def read(**environ: str) -> Settings:
    """Read settings from these variables alone."""
    return read_settings(environ, None)


def refusal(environ: Mapping[str, str], env_file: Path | None = None) -> str:
    """Return what the refusal says, which is always one line without a secret."""
    with pytest.raises(ConfigurationError) as failure:
        read_settings(environ, env_file)
    line = str(failure.value)
    assert line.isprintable()
    assert SECRET not in line
    return line


def test_nothing_set() -> None:
    """Without any setting the engine runs dry, on this machine only, on its own example."""
    settings = read()

    assert (settings.host, settings.port) == ("127.0.0.1", 3001)
    assert settings.database_path == Path("data/experiment_engine.db")
    assert settings.engine_config is None
    assert settings.clevertap_region == "in1"
    assert settings.clevertap_base_url is None
    assert (settings.api_token, settings.log_format) == ((), None)
    assert (settings.amplitude_webhook_secret, settings.clevertap_webhook_secret) == ((), ())
    assert (settings.is_loopback, settings.start_paused) == (True, False)
    assert settings.connected == frozenset()


def test_everything_set() -> None:
    """Every setting arrives."""
    settings = read(
        HOST="::1",
        PORT="0",
        DATABASE_URL="sqlite:////var/lib/engine.db",
        ENGINE_CONFIG="my-config",
        CLEVERTAP_REGION="eu1",
        CLEVERTAP_BASE_URL="http://127.0.0.1:9000/",
        LOG_FORMAT="json",
        START_PAUSED="1",
        **ACCOUNT,
        **ALL_SECRETS,
    )

    assert (settings.host, settings.port, settings.is_loopback) == ("::1", 0, True)
    assert settings.database_path == Path("/var/lib/engine.db")
    assert settings.engine_config == Path("my-config")
    assert (settings.clevertap_account_id, settings.clevertap_passcode) == ("TEST-ACC", SECRET)
    assert settings.clevertap_region == "eu1"
    assert settings.connected == {"clevertap"}
    assert settings.clevertap_base_url == "http://127.0.0.1:9000"
    assert (settings.log_format, settings.start_paused) == ("json", True)
    assert settings.api_token[0].matches(ALL_SECRETS["API_TOKEN"].encode())


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql(scheme: str) -> None:
    """Both names of its addresses mean the same; a socket's folder may stand for a host."""
    settings = read(DATABASE_URL=f"{scheme}://me:{SECRET}@db.example.org:5432/engine")

    assert settings.database_url == f"postgresql://me:{SECRET}@db.example.org:5432/engine"
    assert not settings.is_sqlite
    assert read(DATABASE_URL=f"{scheme}:///engine?host=/run/postgresql").database_url
    assert read().is_sqlite


def test_settings_are_frozen_and_discreet() -> None:
    """Nobody changes a setting later, and none of the secrets shows when settings are printed."""
    settings = read(DATABASE_URL=f"sqlite:///{SECRET}.db", **ACCOUNT, **ALL_SECRETS)

    assert SECRET not in f"{settings!r} {settings}"
    with pytest.raises(ValidationError):
        settings.port = 1


def test_a_program_may_pass_values() -> None:
    """Settings made by a program are checked by the same rules."""
    credential = Credential(SecretStr(SECRET))

    assert Settings(port=0, api_token=(credential,)).api_token == (credential,)
    with pytest.raises(ValidationError):
        Settings(host="0.0.0.0")


def test_file_and_environment(tmp_path: Path) -> None:
    """`.env` counts, the environment wins over it, and an empty variable means the default."""
    env_file = tmp_path / ".env"
    env_file.write_text(
        '\ufeff# ours\nexport PORT=4000\nHOST="localhost"  # here\nLOG_FORMAT=json\nOTHER=1\n'
    )

    settings = read_settings({"PORT": "5000", "LOG_FORMAT": " "}, env_file)

    assert (settings.host, settings.port, settings.log_format) == ("localhost", 5000, None)


def test_empty_variables_force_a_dry_run(tmp_path: Path) -> None:
    """Empty variables switch off an account in `.env`: nobody is written to by surprise."""
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in ACCOUNT.items()))

    assert read_settings({}, env_file).connected
    assert not read_settings(dict.fromkeys(ACCOUNT, ""), env_file).connected


def test_values_of_the_file_are_taken_as_written(tmp_path: Path) -> None:
    """A token with a dollar sign in it stays what it is."""
    env_file = tmp_path / ".env"
    env_file.write_text("API_TOKEN=a${HOME}b$c\n")

    assert read_settings({}, env_file).api_token[0].matches(b"a${HOME}b$c")


@pytest.mark.parametrize(
    "content",
    [f'PORT=1\nAPI_TOKEN="{SECRET}\n', f"PORT=1\nAPI_TOKEN {SECRET}\n", "PORT=1\nAPI_TOKEN\n"],
)
def test_line_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    """A line of `.env` that is not understood stops the start: it may have held a secret."""
    env_file = tmp_path / ".env"
    env_file.write_text(content)

    assert refusal({}, env_file).startswith(".env: line 2: not understood: write NAME=value")


def test_file_that_is_not_utf_8(tmp_path: Path) -> None:
    """A `.env` in another encoding is named as such."""
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"API_TOKEN=\xff\xfe\n")

    assert refusal({}, env_file) == ".env: not UTF-8: save the file as UTF-8"


def test_no_file_and_a_folder_of_that_name(tmp_path: Path) -> None:
    """No `.env` is fine, and so is a virtual environment of that name."""
    assert read_settings({}, tmp_path / ".env") == read()
    assert read_settings({}, tmp_path) == read()


MISTAKES: list[tuple[dict[str, str], tuple[str, ...]]] = [
    ({"HOST": "http://x"}, ("HOST: ", "address")),
    ({"HOST": "a\nb"}, ("HOST: ", r"a\nb")),
    ({"PORT": "http"}, ("PORT: ", '"http"', "65535")),
    ({"PORT": "65536"}, ("PORT: ", "65535")),
    ({"PORT": "-1"}, ("PORT: ", "65535")),
    ({"PORT": "٣"}, ("PORT: ", "65535")),
    ({"PORT": "9" * 5000}, ("PORT: ",)),
    ({"DATABASE_URL": f"postgresql://u:{SECRET}@h"}, ("DATABASE_URL: ", "host:5432/name")),
    ({"DATABASE_URL": f"postgres://u:{SECRET}@/x"}, ("DATABASE_URL: ", "host:5432/name")),
    ({"DATABASE_URL": f"postgresql://u:{SECRET}@h:p/x"}, ("DATABASE_URL: ", "host:5432/name")),
    ({"DATABASE_URL": f"postgresql://u:{SECRET}#@h/x"}, ("DATABASE_URL: ", "%XX")),
    ({"DATABASE_URL": f"postgresql+psycopg://u:{SECRET}@h"}, ("DATABASE_URL: ", "postgresql://")),
    ({"DATABASE_URL": f"mysql://u:{SECRET}@h/x"}, ("DATABASE_URL: ", "sqlite:///data/")),
    ({"DATABASE_URL": "data/engine.db"}, ("DATABASE_URL: ", "sqlite:///data/")),
    ({"DATABASE_URL": "sqlite://"}, ("DATABASE_URL: ", "sqlite:///data/")),
    ({"DATABASE_URL": "sqlite:///"}, ("DATABASE_URL: ", "sqlite:///data/")),
    ({"DATABASE_URL": "sqlite:////data/"}, ("DATABASE_URL: ", "sqlite:///data/")),
    ({"DATABASE_URL": "sqlite:///:memory:"}, ("DATABASE_URL: ", "plain file")),
    ({"DATABASE_URL": "sqlite:///a.db?mode=ro"}, ("DATABASE_URL: ", "without options")),
    ({"CLEVERTAP_ACCOUNT_ID": "A"}, ("CLEVERTAP_PASSCODE: ", "missing", "dry run")),
    ({"CLEVERTAP_PASSCODE": SECRET}, ("CLEVERTAP_ACCOUNT_ID: ", "missing", "dry run")),
    ({**ACCOUNT, "CLEVERTAP_PASSCODE": f"{SECRET} \u201d"}, ("CLEVERTAP_PASSCODE: ", "again")),
    ({"CLEVERTAP_REGION": "in2"}, ("CLEVERTAP_REGION: ", "in1, sg1, us1, aps3, mec1, eu1")),
    ({"CLEVERTAP_BASE_URL": "api.clevertap.com"}, ("CLEVERTAP_BASE_URL: ", "https://")),
    ({"CLEVERTAP_BASE_URL": "ftp://x"}, ("CLEVERTAP_BASE_URL: ", "https://")),
    ({"CLEVERTAP_BASE_URL": "https://x/1/send"}, ("CLEVERTAP_BASE_URL: ", "without a path")),
    ({"CLEVERTAP_BASE_URL": f"https://u:{SECRET}@x"}, ("CLEVERTAP_BASE_URL: ", "origin")),
    ({"CLEVERTAP_BASE_URL": "https://x:port"}, ("CLEVERTAP_BASE_URL: ", "origin")),
    ({"CLEVERTAP_BASE_URL": "https://["}, ("CLEVERTAP_BASE_URL: ", "origin")),
    ({"LOG_FORMAT": "text"}, ("LOG_FORMAT: ", "console, json")),
    ({"START_PAUSED": "yes"}, ("START_PAUSED: ", "0, 1")),
    ({"API_TOKEN": f"{SECRET},"}, ("API_TOKEN: ", "entry 2 is empty")),
    ({"API_TOKEN": f",{SECRET}"}, ("API_TOKEN: ", "entry 1 is empty")),
    ({"API_TOKEN": "stats:"}, ("API_TOKEN: ", "entry 1 is empty")),
    ({"API_TOKEN": f"x,{SECRET}:y"}, ("API_TOKEN: ", "entry 2", "trigger, engagement")),
    ({"API_TOKEN": f"stats+{SECRET}:y"}, ("API_TOKEN: ", "entry 1", "stats, admin")),
    ({"API_TOKEN": f":{SECRET}"}, ("API_TOKEN: ", "entry 1")),
    ({"API_TOKEN": f"{SECRET},stats:{SECRET}"}, ("API_TOKEN: ", "twice")),
    ({"AMPLITUDE_WEBHOOK_SECRET": f"a {SECRET}"}, ("AMPLITUDE_WEBHOOK_SECRET: ", "blank")),
    ({"CLEVERTAP_WEBHOOK_SECRET": f"é{SECRET}"}, ("CLEVERTAP_WEBHOOK_SECRET: ", "special")),
]


@pytest.mark.parametrize(("environ", "says"), MISTAKES)
def test_mistake(environ: dict[str, str], says: tuple[str, ...]) -> None:
    """A wrong setting is named first, then its mend, and never a secret."""
    line = refusal(environ)

    assert line.startswith(says[0])
    for words in says[1:]:
        assert words in line


@pytest.mark.parametrize("missing", sorted(ALL_SECRETS))
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "engine.example.com", "0"])
def test_open_house_is_refused(host: str, missing: str) -> None:
    """On an address that others can reach it does not start without all three secrets."""
    rest = {name: value for name, value in ALL_SECRETS.items() if name != missing}

    line = refusal({"HOST": host, **rest})

    assert line.startswith("HOST: ")
    assert f"set {missing} too" in line
    assert not read_settings({"HOST": host, **ALL_SECRETS}, None).is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.3", "::1", "localhost", "LOCALHOST"])
def test_this_machine_only(host: str) -> None:
    """On a loopback address no secret is needed."""
    assert read(HOST=host).is_loopback


def test_several_secrets_with_scopes() -> None:
    """A list holds secrets for everything and for some uses; blanks around do not count."""
    everything, limited = read(API_TOKEN=" plain , stats+trigger:a:b ").api_token

    assert (everything.scopes, everything.matches(b"plain")) == (None, True)
    assert limited.scopes == frozenset({"stats", "trigger"})
    assert limited.matches(b"a:b")
    assert not limited.matches(b"stats+trigger:a:b")
    assert not limited.matches("é".encode())


TOKEN = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",:"), min_size=1
)


@given(st.lists(st.tuples(TOKEN, st.frozensets(st.sampled_from(SCOPES))), min_size=1))
def test_any_secrets_survive_the_list(entries: list[tuple[str, frozenset[str]]]) -> None:
    """Whatever signs secrets are made of, each opens with its own scopes and no other."""
    given_secrets = {token: scopes or None for token, scopes in entries}
    written = [
        f"{'+'.join(sorted(scopes))}:{token}" if scopes else token
        for token, scopes in given_secrets.items()
    ]

    credentials = read(API_TOKEN=",".join(written)).api_token

    for token, scopes in given_secrets.items():
        matching = [entry for entry in credentials if entry.matches(token.encode())]
        assert [entry.scopes for entry in matching] == [scopes]


@given(st.sampled_from(sorted(map(str.lower, SETTINGS))), st.text())
def test_any_text_in_any_setting(name: str, value: str) -> None:
    """Whatever a variable holds, it is taken or refused in one line that names a setting."""
    try:
        read_settings({name.upper(): value}, None)
    except ConfigurationError as error:
        line = str(error)
        assert line.isprintable()
        assert re.match("[A-Z_]+: ", line)


@given(st.binary())
def test_any_bytes_in_the_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever `.env` holds, it is taken or refused in one line."""
    env_file = tmp_path_factory.mktemp("env") / ".env"
    env_file.write_bytes(content)
    try:
        read_settings({}, env_file)
    except ConfigurationError as error:
        line = str(error)
        assert line.isprintable()


SIGNING = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
HOOK = {
    "OUTGOING_WEBHOOK_URL": "https://messages.example.com/due",
    "OUTGOING_WEBHOOK_SECRET": SIGNING,
}


def test_another_provider_is_connected() -> None:
    """A provider with all that it requires is connected; what it takes never shows."""
    settings = read_settings(HOOK, None)
    assert settings.connected == {"webhook"}
    assert settings.settings_of(PROVIDERS["webhook"]) == HOOK
    assert SIGNING not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"OUTGOING_WEBHOOK_SECRET": ""}, "OUTGOING_WEBHOOK_SECRET: is missing"),
        ({"OUTGOING_WEBHOOK_URL": ""}, "OUTGOING_WEBHOOK_URL: is missing"),
        ({"OUTGOING_WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "OUTGOING_WEBHOOK_SECRET: not a signing"),
        ({"OUTGOING_WEBHOOK_URL": "https://u:geheim@example.com/"}, "OUTGOING_WEBHOOK_URL: not"),
        ({"OUTGOING_WEBHOOK_URL": "https://exa mple.com/"}, "OUTGOING_WEBHOOK_URL: not"),
        ({"OUTGOING_WEBHOOK_LOOPBACK": "yes"}, "OUTGOING_WEBHOOK_LOOPBACK: "),
    ],
)
def test_a_mistake_in_a_provider_s_settings(changes: dict[str, str], told: str) -> None:
    """It stops the start with one line that names the setting, and repeats no secret."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings({**HOOK, **changes}, None)
    assert str(refused.value).startswith(told)
    assert "c2hvcnQ" not in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_example_file() -> None:
    """`.env.example` explains every setting, and each line in it can be used as it stands."""
    text = (Path(__file__).parents[2] / ".env.example").read_text()
    lines = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, re.MULTILINE))

    assert sorted(lines) == sorted(SETTINGS)
    for name, value in lines.items():
        read_settings({name: value}, None)
    same = ("HOST", "PORT", "DATABASE_URL", "CLEVERTAP_REGION", "START_PAUSED")
    assert read_settings({name: lines[name] for name in same}, None) == read()
