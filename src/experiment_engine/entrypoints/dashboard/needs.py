"""What needs a hand: each with where to go, and nothing that the engine does by itself."""

from dataclasses import dataclass

from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.measurement.silence import GOALS, Silence
from experiment_engine.domain.moments import MINUTE, Duration, Instant
from experiment_engine.entrypoints.dashboard import labels
from experiment_engine.entrypoints.dashboard.pages import Asked

_SILENT = Duration(30 * MINUTE)  # without any event for this long, something may be broken


@dataclass(frozen=True, slots=True)
class Need:
    """One thing for a person to do."""

    what: str
    why: str
    link: str
    link_text: str


def needs(asked: Asked, heard_at: Instant | None) -> list[Need]:
    """Return what needs a hand, the most pressing first."""
    engine = asked.engine
    found = [
        Need(
            f"Paused: {labels.scope(scope)}",
            "Nothing of it is decided or sent.",
            "/guardrails",
            "Look",
        )
        for scope in engine.report.reading.paused()
    ]
    found += [
        Need(
            f"{labels.words(channel)} is failing",
            f"The provider refused its last {refused} messages, so it rests.",
            "/health-checks",
            "Look",
        )
        for channel, refused in engine.report.reading.failing_channels().items()
    ]
    found += [
        Need(
            f"{labels.words(cohort)} has stopped learning",
            frozen.reason,
            f"/results/{cohort}",
            "Look",
        )
        for cohort, frozen in engine.report.reading.frozen(engine.mode).items()
    ]
    quarantined = engine.report.reading.quarantine_size()
    if quarantined:
        found.append(
            Need(
                f"{labels.number(quarantined)} not understood",
                "They came with the right secret and are kept; nothing follows from them.",
                "/events?show=quarantine",
                "Look",
            )
        )
    silences = engine.report.reading.silences()
    silent = [silence for silence in silences if silence.until is None]
    found += [_silence(silence, engine.clock.now()) for silence in silent]
    if silent:
        heard_at = None  # said better
    watch = asked.running.watch
    if watch is not None and watch.mistake is not None:
        found.append(
            Need(
                "The configuration has a mistake",
                f"{watch.mistake}. The engine goes on as before, until it is mended.",
                "/health-checks",
                "Look",
            )
        )
    silent_for = 0 if heard_at is None else engine.clock.now() - heard_at
    if silent_for > _SILENT:
        found.append(
            Need(
                f"No event for {labels.span(silent_for)}",
                "If people use the app now, the webhook may be broken.",
                "/events",
                "Look",
            )
        )
    if engine.mode is Mode.DRY_RUN:
        found.append(
            Need(
                "Sending is off",
                "Messages are rendered and shown, and nobody is written to. Set"
                " CLEVERTAP_ACCOUNT_ID and CLEVERTAP_PASSCODE to send.",
                "/health-checks",
                "Look",
            )
        )
    return found


def _silence(silence: Silence, now: Instant) -> Need:
    of_goals = " no conversions" if silence.told == GOALS else " nothing"
    return Need(
        f"{labels.words(silence.source)} tells{of_goals} for {labels.span(now - silence.since)}",
        "At this time of the day it usually does. What it would tell counts as not known yet,"
        " not as failures.",
        "/health-checks",
        "Look",
    )
