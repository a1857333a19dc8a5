"""`rebuild` and `exclude-source`: count anew from the ledger, and take a source's word back."""

import json as json_text
import os
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.status import Status

from experiment_engine import bootstrap
from experiment_engine.application.rebuild import exclude, recount
from experiment_engine.application.rebuild import rebuild as rebuild_counters
from experiment_engine.domain.errors import EngineError, WrongUse
from experiment_engine.domain.events import Source
from experiment_engine.domain.moments import Instant, to_instant
from experiment_engine.settings import read_settings

_SHOWN = 20
_SOURCES = ", ".join(sorted(Source))

Json = Annotated[bool, Parameter(help="Answer as JSON.")]


def rebuild(
    *,
    check: Annotated[bool, Parameter(help="Only compare; change nothing.")] = False,
    json: Json = False,
) -> None:
    """Count every experiment anew and put the result in the place of the counters.

    What learning and the statistics rest on is then exactly what the ledger of experiments
    says. With --check the exit status is 1 where the counters differ from it. On PostgreSQL
    everything else may run; taking in waits while it counts.
    """
    opened = closing(bootstrap.open_storage(read_settings(os.environ)))
    with opened as storage, _waiting("Counting ..."):
        found = storage.run(recount if check else rebuild_counters)
    answer = {
        "experiments": found.experiments,
        "differences": len(found.differences),
        "mended": bool(found.differences) and not check,
        "examples": found.differences[:_SHOWN],
    }
    if json:
        print(json_text.dumps(answer))  # noqa: T201 - the command's answer
    else:
        for difference in found.differences[:_SHOWN]:
            print(difference)  # noqa: T201
        print(  # noqa: T201
            f"{found.experiments} experiments counted, {len(found.differences)} counters differ"
            + (" and are put right." if answer["mended"] else ".")
        )
    if check and found.differences:
        raise EngineError("the counters differ from the ledger: run `experiment-engine rebuild`")


def exclude_source(
    source: Annotated[str, Parameter(help=f"One of {_SOURCES}.")],
    *,
    since: Annotated[
        datetime | None, Parameter(help="Conversions from then on (ISO 8601); all, if left out.")
    ] = None,
    until: Annotated[datetime | None, Parameter(help="Conversions up to then.")] = None,
    json: Json = False,
) -> None:
    """Take back the conversions that a source told of, as if it had been silent.

    For a leaked secret or a broken integration. Where another source told of a conversion inside
    the window, the experiment keeps that one. The counters follow; then run
    POST /api/cohorts/{cohort}/unfreeze where learning is frozen.
    """
    if source not in set(Source):
        raise WrongUse(f'SOURCE: there is no source "{source}": write one of {_SOURCES}')
    settings = read_settings(os.environ)
    cohorts = bootstrap.read_rules(settings).cohorts
    span = (
        to_instant(since) if since else Instant(0),
        to_instant(until or datetime.max.replace(tzinfo=UTC)),
    )
    opened = closing(bootstrap.open_storage(settings))
    with opened as storage, _waiting("Looking for conversions ..."):
        number = storage.run(lambda tx: exclude(Source(source), span, cohorts, tx))
    if json:
        print(json_text.dumps({"source": source, "taken_back": number}))  # noqa: T201
    else:
        print(f"{number} conversions told by {source} are taken back.")  # noqa: T201


def _waiting(what: str) -> Status:
    return Console(stderr=True).status(what)
