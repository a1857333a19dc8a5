"""`init`: a configuration to edit, and settings with fresh secrets."""

import json as json_text
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from experiment_engine.configuration.loading import bundled_example
from experiment_engine.configuration.schema import schemas
from experiment_engine.domain.errors import ConfigurationError

_HERE = Path()
_CONFIG = "config"
_SCHEMAS = "schema"
_ENV = ".env"
_SECRETS = ("API_TOKEN", "AMPLITUDE_WEBHOOK_SECRET", "CLEVERTAP_WEBHOOK_SECRET")
_BYTES = 32  # of a secret, written as twice as many digits

_ENV_TEXT = f"""\
# Settings of the Experiment Engine, read from the folder in which it is started.
# Keep this file to yourself. The environment wins over it. All settings: docs/settings.md.

# The folder with your cohorts, texts and rules.
ENGINE_CONFIG={_CONFIG}

# Who may come in. Each is a secret of its own.
# For /api/*, /metrics and the dashboard: callers send `Authorization: Bearer <token>`.
API_TOKEN={{API_TOKEN}}
# For /webhook/amplitude: Amplitude sends it as `Authorization: Bearer <secret>`.
AMPLITUDE_WEBHOOK_SECRET={{AMPLITUDE_WEBHOOK_SECRET}}
# For /webhook/opened, /webhook/converted and /webhook/opted-out: CleverTap sends it likewise.
CLEVERTAP_WEBHOOK_SECRET={{CLEVERTAP_WEBHOOK_SECRET}}

# Set both, and messages go out to real users. With neither the engine runs dry: it calls nobody.
# CLEVERTAP_ACCOUNT_ID=
# CLEVERTAP_PASSCODE=
# The region of your account: in1, sg1, us1, aps3, mec1 or eu1; your dashboard's address begins
# with it.
# CLEVERTAP_REGION=in1

# HOST=127.0.0.1
# PORT=3001
# DATABASE_URL=sqlite:///data/experiment_engine.db
# START_PAUSED=0
"""

_NEXT = f"""\
Next:
  1. Edit {_CONFIG}/: your events, combos and texts. Then: {{change}}experiment-engine config check
  2. {{change}}experiment-engine serve
     A dry run: nobody is written to. The dashboard asks for API_TOKEN of {_ENV}.
  3. Connect Amplitude and CleverTap: docs/connect-amplitude.md, docs/connect-clevertap.md.
     Then: {{change}}experiment-engine doctor""".splitlines()


def init(
    folder: Annotated[
        Path, Parameter(name="DIR", help="Where to begin; made if missing.")
    ] = _HERE,
    /,
    *,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Write a configuration to edit into DIR/config, and DIR/.env with fresh secrets.

    Nothing that is there is overwritten. Editors that read TOML by schema (Even Better TOML,
    Taplo) complete and check the files as you type.
    """
    written: list[str] = []
    kept: list[str] = []
    for name, text in _files():
        made = _write(folder / name, text, mode=0o600 if name == _ENV else 0o644)
        (written if made else kept).append(name)
    if json:
        answer = {"folder": str(folder), "written": written, "kept": kept}
        print(json_text.dumps(answer))  # noqa: T201 - the command's answer
    else:
        print(_said(folder, written, kept))  # noqa: T201


def _files() -> Iterator[tuple[str, str]]:
    for name, schema in schemas().items():
        text = json_text.dumps(schema, ensure_ascii=False, indent=2) + "\n"
        yield f"{_CONFIG}/{_SCHEMAS}/{name}.schema.json", text
    example = bundled_example()
    for path in sorted(example.rglob("*.toml")):
        place = path.relative_to(example)
        kind = {"cohorts": "cohort", "copy": "copy"}.get(place.parent.name, "engine")
        up = "../" * (len(place.parts) - 1) or "./"
        line = f"#:schema {up}{_SCHEMAS}/{kind}.schema.json\n"
        yield f"{_CONFIG}/{place.as_posix()}", line + path.read_text(encoding="utf-8")
    yield _ENV, _ENV_TEXT.format(**{name: secrets.token_hex(_BYTES) for name in _SECRETS})


def _write(path: Path, text: str, *, mode: int) -> bool:
    """Write a new file; return False, and leave it alone, if it is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(  # the mode holds from the first moment
            path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)
        ) as file:
            file.write(text)
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise ConfigurationError(f"init: {path.parent} is no folder: name another DIR") from None
    except OSError as error:
        raise ConfigurationError(f"init: {path} cannot be written: {error.strerror}") from None
    return True


def _said(folder: Path, written: list[str], kept: list[str]) -> str:
    lines = [f"Wrote {len(written)} files into {folder.resolve()}."]
    if kept:
        lines.append(f"Kept as they were: {', '.join(kept)}.")
    if _ENV in kept:
        lines.append(f"Your {_ENV} stays: see to it that it says ENGINE_CONFIG={_CONFIG}.")
    change = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    return "\n".join([*lines, "", *(line.format(change=change) for line in _NEXT)])
