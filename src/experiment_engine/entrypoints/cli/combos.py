"""`cancel` and `reset`: one combo by hand, on the database or through the server that has it."""

import json as json_text
import os
import sys
from contextlib import closing
from typing import Annotated, Any, Literal

import httpx2
from cyclopts import Parameter

from experiment_engine.adapters.system.logs import Journal
from experiment_engine.bootstrap import open_engine
from experiment_engine.domain.errors import EngineError, StorageInUse
from experiment_engine.domain.identifiers import CohortName, ComboKey
from experiment_engine.domain.moments import iso
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.cli.server_here import ask_server
from experiment_engine.settings import Settings, read_settings

_BY = "the command line"

ComboName = Annotated[str, Parameter(help="Its key: delay|channel|angle|offer.")]
CohortOf = Annotated[str, Parameter(help="The cohort it belongs to.")]
Json = Annotated[bool, Parameter(help="Answer as JSON.")]
What = Literal["cancel", "reset"]


def cancel(*, combo: ComboName, cohort: CohortOf, json: Json = False) -> None:
    """Cancel every message that waits for a combo, and say how many that were.

    What is cancelled teaches nothing. The combo stays: new triggers may draw it, unless it is
    paused or taken out of the configuration.
    """
    answer = _do("cancel", cohort, combo)
    _say(answer, f"{answer['cancelled']} messages that waited for {combo} are cancelled.", json)


def reset(*, combo: ComboName, cohort: CohortOf, json: Json = False) -> None:
    """Let a combo's past count no more for learning, as after its offer or text became another.

    Its counts are kept and shown. Learning about it begins anew with the next full hour; what it
    shares with other combos (its delay, channel, angle, offer) is still learned from those.
    """
    answer = _do("reset", cohort, combo)
    _say(answer, f"{combo} learns anew from {answer['learns_from']}; its counts stay.", json)


def _do(what: What, cohort: str, combo: str) -> dict[str, Any]:
    settings = read_settings(os.environ)
    try:
        engine = open_engine(settings, Journal("console", sys.stderr))
    except StorageInUse:  # by the server, which has the database alone
        return _ask(what, cohort, combo, settings)
    with closing(engine):
        return _on_database(what, CohortName(cohort), ComboKey(combo), engine)


def _on_database(
    what: What, cohort: CohortName, combo: ComboKey, engine: Engine
) -> dict[str, Any]:
    answer = {"cohort": cohort, "combo_key": combo}
    if what == "cancel":
        return {**answer, "cancelled": engine.hands.cancel_combo(cohort, combo, who=_BY)}
    return {**answer, "learns_from": iso(engine.hands.reset_combo(cohort, combo, who=_BY))}


def _ask(what: What, cohort: str, combo: str, settings: Settings) -> dict[str, Any]:
    path = httpx2.URL("/api/cohorts/").join(f"{_quoted(cohort)}/{what}")
    return ask_server(settings, str(path), {"combo_key": combo})


def _quoted(name: str) -> str:
    if not name.replace("_", "").isalnum():
        raise EngineError(f'There is no cohort "{name}".')
    return name


def _say(answer: dict[str, Any], words: str, json: bool) -> None:  # noqa: FBT001
    print(json_text.dumps(answer) if json else words)  # noqa: T201 - the command's answer
