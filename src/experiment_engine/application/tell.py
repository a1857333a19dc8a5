"""What analytics is told of experiments: each decision and each sent message, once.

It is read from the experiments themselves, after they were stored and in small steps, so that
taking in and delivering never wait for it. Each notice has a name that stays the same, by which
whoever is told twice knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiment_engine.application.evidence import Noticed
from experiment_engine.application.ports import Keeping, Noticing
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import ExperimentId, UserId, is_erased_id
from experiment_engine.domain.moments import SECOND, Duration, Instant

ASSIGNED, SENT = "experiment_assigned", "experiment_sent"
AT_ONCE = 250  # of each kind in one step
SETTLED = Duration(30 * SECOND)  # what is stored side by side can be seen in any order for a while


@dataclass(frozen=True, slots=True)
class Notice:
    """One event for analytics; nothing personal but the user's id."""

    user_id: UserId
    name: str
    at: Instant
    insert_id: str  # the same however often it is told
    properties: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Notices:
    """What is to be told next, and how far that is: name of the work -> before, after."""

    events: Sequence[Notice]
    steps: Mapping[str, tuple[str, str]]
    more: bool = False


def gather_notices(mode: Mode, noticing: Noticing, now: Instant) -> Notices:
    """Return what has not been told yet; at the very first, what comes from now on."""
    until = Instant(now - SETTLED)
    assigned, sent = (f"tell:{mode.value}:{name}" for name in (ASSIGNED, SENT))
    before = {name: noticing.progress(name) for name in (assigned, sent)}
    start = noticing.begin_at(until)
    after = {assigned: before[assigned] or start, sent: before[sent] or f"{until}|"}
    decided = noticing.decided(mode, ExperimentId(after[assigned]), until, AT_ONCE)
    accepted = noticing.accepted(mode, _place(after[sent]), until, AT_ONCE)
    if decided:
        after[assigned] = decided[-1].experiment.id
    if accepted:
        after[sent] = f"{accepted[-1].at}|{accepted[-1].experiment.id}"
    events = [_notice(ASSIGNED, one) for one in decided] + [_notice(SENT, one) for one in accepted]
    return Notices(
        [one for one in events if not is_erased_id(one.user_id)],
        {name: (before[name], after[name]) for name in before if before[name] != after[name]},
        more=AT_ONCE in (len(decided), len(accepted)),
    )


def keep_told(notices: Notices, keeping: Keeping) -> None:
    """Remember how far it was told, unless another process was faster."""
    for name, (before, after) in notices.steps.items():
        if keeping.progress(name) == before:
            keeping.set_progress(name, after)


def _place(position: str) -> tuple[Instant, ExperimentId]:
    at, _, experiment_id = position.partition("|")
    return Instant(int(at)), ExperimentId(experiment_id)


def _notice(name: str, one: Noticed) -> Notice:
    made = one.experiment
    levels = dict(zip(DIMENSIONS, made.combo_key.split("|"), strict=True))
    properties: dict[str, object] = {
        "experiment_id": made.id,
        "cohort": made.cohort,
        "combo_key": made.combo_key,
        **levels,
        "language": one.language,
        "held_out": made.held_out,
        "manual": made.manual,
        "postponed": made.postponed,
        "propensity": one.propensity,
    }
    if made.goes_out_as != made.combo_key:
        properties["sent_as"] = made.goes_out_as
    return Notice(made.user_id, name, one.at, f"{name}:{made.id}", properties)
