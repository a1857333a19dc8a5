"""`config check` and `config schema`: what is wrong with the folder, and what may stand in it."""

import json as json_text
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from experiment_engine.configuration.checking import Findings, check
from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.configuration.schema import schemas
from experiment_engine.configuration.tables import Mistake, dotted
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.settings import read_settings

config = cyclopts.App(name="config", help="Check the configuration folder; its JSON Schema.")

SchemaName = Literal["engine", "cohort", "copy"]


@config.command(name="check")
def check_folder(
    folder: Annotated[
        Path | None, Parameter(name="DIR", help="A configuration folder; else ENGINE_CONFIG's.")
    ] = None,
    /,
    *,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Say every mistake of a configuration folder that can be told at once.

    The exit status is 1 if there is one. A running engine takes the folder in when it is right.
    """
    chosen = folder or read_settings(os.environ).engine_config or bundled_example()
    found = check(chosen)
    if json:
        print(json_text.dumps(_described(chosen, found), ensure_ascii=False))  # noqa: T201
    else:
        print(_said(chosen, found))  # noqa: T201 - the command's answer
    if found.mistakes:
        number = len(found.mistakes)
        raise ConfigurationError(
            f"{chosen}: {number} mistake{'s' if number > 1 else ''}, see above"
        )


@config.command(name="schema")
def show_schema(
    name: Annotated[
        SchemaName | None, Parameter(help="Of engine.toml, a cohort's or a language's file.")
    ] = None,
    /,
) -> None:
    """Print the JSON Schema of the configuration's files, for editors and other programs."""
    every = schemas()
    answer = every if name is None else every[name]
    print(json_text.dumps(answer, ensure_ascii=False, indent=2))  # noqa: T201


def _described(folder: Path, found: Findings) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "folder": str(folder),
        "valid": not found.mistakes,
        "mistakes": [_one(mistake) for mistake in found.mistakes],
        "unchecked": found.unchecked,
    }
    return answer if found.mistakes else answer | {"fingerprint": load(folder).fingerprint}


def _one(mistake: ConfigurationError) -> dict[str, str | None]:
    if not isinstance(mistake, Mistake):
        return {"file": None, "key": None, "message": str(mistake)}
    key = dotted(mistake.path) or None
    return {"file": mistake.file, "key": key, "message": mistake.text, "line": str(mistake)}


def _said(folder: Path, found: Findings) -> str:
    lines = [str(mistake) for mistake in found.mistakes]
    if found.unchecked:
        lines.append("Not looked at before these are right: texts, campaigns, budgets, leans.")
    if found.mistakes:
        return "\n".join(lines)
    rules = load(folder)
    combos = ", ".join(f"{name} ({len(one.space)} combos)" for name, one in rules.cohorts.items())
    texts = len(rules.catalogue.texts)
    return f"{folder} is right: {combos}; {texts} texts; fingerprint {rules.fingerprint[:12]}."
