"""Health: the checks of `/ready`, and what else shows early that something is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass

from experiment_engine import __version__
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.moments import DAY, MINUTE, Instant
from experiment_engine.entrypoints.dashboard import labels
from experiment_engine.entrypoints.dashboard.pages import Asked, Page, View

_SILENT = 30 * MINUTE
_GOOD, _LOOK, _BAD = "good", "look", "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str  # good, look or bad
    found: str
    mend: str = ""


def view(asked: Asked) -> View:
    """Return every check, the worst first, and the processes that live."""
    checks = [*_ready(asked), *_provider(asked), *_sources(asked), *_numbers(asked)]
    order = (_BAD, _LOOK, _GOOD)
    engine = asked.engine
    return {
        "checks": sorted(checks, key=lambda check: order.index(check.state)),
        "configuration": engine.rules.fingerprint[:12],
        "schema": engine.pages.reading.schema_revision(),
        "engine_version": __version__,
        "processes": engine.pages.reading.processes(Instant(engine.clock.now() - DAY)),
    }


def _ready(asked: Asked) -> Iterator[Check]:
    answer = asked.running.readiness()
    mends = {
        "database": "See the engine's log, and whether the disk is full or the server is away.",
        "migrations": "Run `experiment-engine migrate`.",
        "worker": "See the engine's log, and start it again.",
        "configuration": "Mend the file (`experiment-engine config check`): it is taken in by"
        " itself. Where processes differ, give all of them the same folder.",
    }
    for name, found in answer["checks"].items():
        good = found in {"ok", "elsewhere"}
        yield Check(labels.words(name), _GOOD if good else _BAD, found, mends.get(name, ""))
    engine = asked.engine
    if engine.mode is Mode.LIVE:
        yield Check("Sending", _GOOD, "on: messages go out to people")
    else:
        yield Check(
            "Sending",
            _LOOK,
            "off (dry run): nobody is written to",
            "Set CLEVERTAP_ACCOUNT_ID and CLEVERTAP_PASSCODE, and start again.",
        )


def _provider(asked: Asked) -> Iterator[Check]:
    for channel, said in asked.running.readiness()["provider"].get("channels", {}).items():
        name = f"CleverTap, {labels.words(channel)}"
        if said["failing"]:
            text = f"refused the last {said['refused_in_a_row']} messages; the channel rests"
            yield Check(name, _BAD, text, "Look at a refused message's answer on its user's page.")
        elif said["breaker"] == "open":
            yield Check(name, _BAD, "does not answer; single messages try it again")
        else:
            yield Check(name, _GOOD, "no trouble")


def _sources(asked: Asked) -> Iterator[Check]:
    engine = asked.engine
    now = engine.clock.now()
    for source, mend in (
        ("amplitude", "Look at the webhook's destination in Amplitude, and at its secret."),
        ("clevertap", "Look at the webhooks of the campaigns in CleverTap, and at their secret."),
    ):
        newest = engine.pages.reading.latest_events(1, source=source)
        name = f"Events from {labels.words(source)}"
        if not newest:
            yield Check(name, _LOOK, "none among the newest few thousand", mend)
            continue
        ago = now - newest[0].received_at
        state = _LOOK if ago > _SILENT else _GOOD
        yield Check(name, state, f"the last one {labels.span(max(0, ago))} ago", mend)
    for silence in engine.report.reading.silences():
        name = f"Silence of {labels.words(silence.source)}, {silence.told}"
        since = labels.span(max(0, now - silence.since))
        if silence.until is None:
            text = f"since {since} ago, against its rhythm; trials are held"
            yield Check(name, _BAD, text, "Mend the source, or release it (docs/operations.md).")
        else:
            text = f"{since} ago, of {labels.span(silence.until - silence.since)}; not filled"
            yield Check(name, _LOOK, text, "Run `experiment-engine reconcile`, or release it.")
    quarantined = engine.report.reading.quarantine_size()
    if quarantined:
        text = f"{labels.number(quarantined)} bodies wait in quarantine"
        yield Check("Not understood", _LOOK, text, "See Live events, Quarantine.")
    else:
        yield Check("Not understood", _GOOD, "nothing")


def _numbers(asked: Asked) -> Iterator[Check]:
    engine = asked.engine
    frozen = engine.report.reading.frozen(engine.mode)
    for cohort in engine.rules.cohorts:
        results = engine.pages.results(cohort)
        name = f"{labels.words(cohort)}: numbers fit together"
        if results.mismatch is not None:
            yield Check(name, _BAD, results.mismatch, "Nothing is called the best until then.")
        else:
            yield Check(name, _GOOD, "what was sent fits the chances that were logged")
        if cohort in frozen:
            text = frozen[cohort].reason
            yield Check(f"{labels.words(cohort)}: learning", _LOOK, f"held: {text}")


PAGE = Page("/health-checks", "/health-checks.json", "Health", "health.html", view)
