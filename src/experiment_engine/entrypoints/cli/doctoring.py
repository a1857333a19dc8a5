"""`doctor`: what is wrong, and how to mend it; with `--live`, what only a trial settles."""

import json as json_text
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiment_engine.application.diagnosis import Finding
from experiment_engine.domain.errors import ConfigurationError, WrongUse
from experiment_engine.entrypoints.checkup.doors import of_public_url, public_origin
from experiment_engine.entrypoints.checkup.house import (
    of_configuration,
    of_database,
    of_env_file,
    of_names,
    of_secrets,
)
from experiment_engine.entrypoints.checkup.partners import of_providers
from experiment_engine.entrypoints.cli.trying_live import Plan, ask_first, try_live
from experiment_engine.settings import Settings, read_settings

_ENV = Path(".env")
_COLOURS = {"ok": "green", "note": "yellow", "wrong": "red"}


def doctor(
    *,
    public_url: Annotated[
        str | None,
        Parameter(help="The https:// address that partners call; asked through it, too."),
    ] = None,
    live: Annotated[
        bool,
        Parameter(
            help="Then send one push, one upload and one webhook for a test user, and settle what"
            " the providers' pages leave open.",
            negative="",
        ),
    ] = False,
    user: Annotated[str | None, Parameter(help="With --live: you, on your own phone.")] = None,
    file: Annotated[
        Path | None, Parameter(help="With --live: where the answers go; must be new.")
    ] = None,
    yes: Annotated[bool, Parameter(help="With --live: send without asking.", negative="")] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Look at everything that can be wrong, and say what was seen and how to mend it.

    Settings, secrets, configuration, texts, database, clocks, provider and webhooks. Nothing is
    changed and without --live nothing is sent to anybody; it works beside a running server. The
    exit status is 1 where something is wrong; a note is no fault.
    """
    url = None if public_url is None else public_origin(public_url)
    if live != bool(user and user.strip()) or ((yes or file is not None) and not live):
        raise WrongUse("--live: write --live --user ID, with you for the ID")
    found = list(_findings(url))
    wrong = [finding for finding in found if finding.state == "wrong"]
    answer: dict[str, Any] = {"well": not wrong, "checks": [asdict(finding) for finding in found]}
    if not json:
        Console().print(_table(found))
        Console().print(_in_all(found))
    if user is not None and not wrong:
        plan = Plan(read_settings(os.environ), user.strip(), url, file)
        ask_first(plan, yes=yes)
        answer["live"] = try_live(plan, quiet=json)
    if json:
        print(json_text.dumps(answer, ensure_ascii=False))  # noqa: T201 - the command's answer
    if live and wrong:
        raise ConfigurationError("--live: nothing was sent: first mend what is wrong")
    sys.exit(1 if wrong else 0)


def _findings(url: str | None) -> Iterator[Finding]:
    yield from of_env_file(_ENV)
    try:
        settings = read_settings(os.environ)
    except ConfigurationError as error:
        yield Finding("settings", "wrong", str(error), "mend it, then ask again: the rest waits")
        return
    yield Finding("settings", "ok", "every setting can be read")
    yield from of_names(_ENV)
    yield from _of(settings, url)


def _of(settings: Settings, url: str | None) -> Iterator[Finding]:
    yield from of_secrets(settings)
    yield from of_configuration(settings)
    yield from of_database(settings)
    yield from of_providers(settings)
    if url is not None:
        yield from of_public_url(url, settings)


def _table(found: Sequence[Finding]) -> Table:
    table = Table("", "check", "seen, and how to mend it", box=SIMPLE_HEAD)
    for finding in found:
        said = Text(finding.saw)
        if finding.mend:
            said.append(f"\n→ {finding.mend}", "bold")
        state = Text(finding.state, _COLOURS[finding.state])
        table.add_row(state, Text(finding.check), said)
    return table


def _in_all(found: Sequence[Finding]) -> Text:
    numbers = {state: sum(one.state == state for one in found) for state in _COLOURS}
    return Text(", ".join(f"{number} {state}" for state, number in numbers.items()))
