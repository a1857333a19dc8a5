"""Between rows and the values of the domain."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from io import BytesIO
from typing import Any

import msgspec
import numpy as np

from experiment_engine.adapters.storage.tables import WAITING_SLOT
from experiment_engine.application.changes import EndedAttempt, Quarantined, Replaced, StoredEvent
from experiment_engine.domain.bandit.change_alarm import Change
from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.bandit.policy import Arrays
from experiment_engine.domain.bandit.shift_limit import ShiftLimit
from experiment_engine.domain.bandit.snapshot import Snapshot
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import (
    WAITING,
    Decided,
    Experiment,
    Mode,
    State,
)
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import CohortName, UserId
from experiment_engine.domain.moments import Instant

Row = tuple[object, ...]

_SHARES = "traffic.shares"
_FACTORS, _BASE, _FLOOR = "limit.factors", "limit.base", "limit.floor"

_STATES = {state.value: state for state in State}
_MODES = {mode.value: mode for mode in Mode}


def experiment_from(row: Sequence[object]) -> Experiment:
    """Build an experiment from a row in the order of `statements.EXPERIMENT_COLUMNS`."""
    made = Experiment(*row)  # type: ignore[arg-type]  # the columns are the fields, in order
    made.mode, made.state = _MODES[made.mode], _STATES[made.state]
    made.held_out, made.manual, made.postponed = (
        bool(made.held_out),
        bool(made.manual),
        bool(made.postponed),
    )
    return made


def new_experiment_row(made: Experiment, decided: Decided) -> Row:
    """Return the values of `ADD_EXPERIMENT`."""
    return (
        made.id,
        made.user_id,
        made.cohort,
        made.combo_key,
        made.channel,
        made.mode.value,
        made.held_out,
        made.manual,
        made.postponed,
        made.triggered_at,
        made.decided_at,
        made.due_at,
        made.expires_at,
        made.window_ends_at,
        made.state.value,
        _plain(made.reason),
        made.placed_at,
        made.opened_at,
        made.converted_at,
        made.attempts,
        made.call_id,
        made.lease_until,
        made.levels,
        made.converted_by,
        made.value,
        made.replaced_by,
        _plain(made.replaced_for),
        _slot(made),
        decided.event_key,
        decided.zone,
        decided.propensity,
        decided.distribution_id,
        decided.snapshot_id,
        decided.seed,
        decided.language,
        decided.title,
        decided.body,
        decided.context,
        decided.facts,
        decided.stand_ins,
        decided.address,
    )


def changed_experiment_row(changed: Experiment) -> Row:
    """Return the values of `CHANGE_EXPERIMENT`."""
    return (
        changed.postponed,
        changed.due_at,
        changed.expires_at,
        changed.state.value,
        _plain(changed.reason),
        changed.placed_at,
        changed.opened_at,
        changed.converted_at,
        changed.attempts,
        changed.call_id,
        changed.lease_until,
        changed.converted_by,
        changed.value,
        changed.replaced_by,
        _plain(changed.replaced_for),
        _slot(changed),
        changed.id,
        changed.user_id,
    )


def replaced_text_row(replaced: Replaced) -> Row:
    """Return the values of `REPLACE_TEXT`."""
    text, drawn = replaced.stand_in, replaced.drawn
    kept = to_json({"language": drawn.language, "title": drawn.title, "body": drawn.body})
    made = replaced.experiment
    return (text.language, text.title, text.body, kept, made.id, made.user_id)


def _plain(reason: str | None) -> str | None:
    # A reason may be a member of an enumeration, which no driver need know.
    return None if reason is None else str(reason)


def _slot(experiment: Experiment) -> str:
    return WAITING_SLOT if experiment.state in WAITING else experiment.id


def event_row(stored: StoredEvent) -> Row:
    """Return the values of `ADD_EVENT`."""
    return (
        stored.user_id,
        stored.key,
        stored.source.value,
        stored.name,
        stored.happened_at,
        stored.received_at,
        stored.raw,
        stored.status,
        _plain(stored.reason),
        stored.experiment_id,
    )


def quarantined_row(kept: Quarantined) -> Row:
    """Return the values of `ADD_QUARANTINED`."""
    digest = blake2b(kept.raw, digest_size=16).hexdigest()
    return (kept.source.value, kept.received_at, str(kept.reason), digest, kept.raw)


def eligible_set_row(eligibility: Eligibility) -> Row:
    """Return the values of `ADD_ELIGIBLE_SET`."""
    refused = {str(why): places for why, places in eligibility.refused.items()}
    eligible = to_json(eligibility.eligible)
    return (eligibility.digest, eligibility.postponed, eligible, to_json(refused))


def distribution_row(cohort: CohortName, made: Distribution) -> Row:
    """Return the values of `ADD_DISTRIBUTION`; what most combos share is written once."""
    shares: dict[float, list[int] | None] = {}
    for place, share in zip(made.eligibility.eligible, made.propensities.tolist(), strict=True):
        group = shares.setdefault(share, [])
        if group is not None:
            group.append(place)
    shares[max(shares, key=lambda share: len(shares[share] or ()))] = None  # all the others
    groups = to_json(list(shares.items()))
    return (made.id, made.snapshot_id, cohort, made.context, made.eligibility.digest, groups)


def propensities_from(shares: str, eligible: str) -> dict[int, float]:
    """Return place -> probability, from a distribution's row and its eligible set's."""
    groups: list[tuple[float, list[int] | None]] = msgspec.json.decode(shares)
    by_place = {place: share for share, places in groups for place in places or ()}
    others = next((share for share, places in groups if places is None), 0.0)
    return {place: by_place.get(place, others) for place in msgspec.json.decode(eligible)}


def ended_attempt_row(ended: EndedAttempt) -> Row:
    """Return the values of `END_ATTEMPT`."""
    return (
        ended.ended_at,
        ended.verdict.value,
        _plain(ended.reason),
        ended.status,
        ended.answer,
        ended.experiment.id,
        ended.experiment.user_id,
        ended.call_id,
    )


def to_json(value: object) -> str:
    """Write JSON text for a column or a list of keys."""
    return msgspec.json.encode(value).decode()


def user_hash(user_id: UserId, key: bytes) -> str:
    """Return the keyed hash by which an erased user is still known."""
    return blake2b(user_id.encode(), digest_size=16, key=key).hexdigest()


def first_id_at(at: Instant) -> str:
    """Return the smallest UUIDv7 of a moment: ids sort by time, so this bounds them."""
    stamp = max(at, 0).to_bytes(6).hex()
    return f"{stamp[:8]}-{stamp[8:]}-7000-8000-000000000000"


def combos_digest(cohort: Cohort) -> str:
    """Return what tells two models' ground apart: combos in their order, policy and prior."""
    described = [*(combo.key for combo in cohort.space.combos), repr(cohort.policy)]
    described.append(repr(cohort.prior))
    return blake2b("\n".join(described).encode(), digest_size=16).hexdigest()


def statistics_to_json(statistics: Statistics) -> str:
    """Write place -> [trials, successes] of the combos that have any."""
    known = np.flatnonzero(statistics.trials + statistics.successes)
    return to_json(
        {
            str(place): [float(statistics.trials[place]), float(statistics.successes[place])]
            for place in known.tolist()
        }
    )


def statistics_from_json(text: str, size: int) -> Statistics:
    """Read what `statistics_to_json` wrote."""
    statistics = Statistics.none(size)
    for place, (trials, successes) in msgspec.json.decode(text).items():
        statistics.trials[int(place)] = trials
        statistics.successes[int(place)] = successes
    return statistics


def details_to_json(snapshot: Snapshot) -> str:
    """Write what people and the next snapshot want to know of this one."""
    return to_json(
        {
            "levels": snapshot.levels.names,
            "changes": snapshot.changes,
            "looked_on": snapshot.looked_on,
            "limited": snapshot.limit is not None,
        }
    )


def changes_from(details: Mapping[str, Any]) -> tuple[Change, ...]:
    """Read the changes of the world that a snapshot knows of."""
    return tuple(Change(**told) for told in details.get("changes", ()))


def shares_from(arrays: Arrays) -> Floats | None:
    """Read the combos' shares of the traffic."""
    return arrays.get(_SHARES)


def snapshot_arrays(snapshot: Snapshot) -> Arrays:
    """Return what a snapshot's decisions need: the model, the shares, and what limits them."""
    arrays = dict(snapshot.model.arrays())
    if snapshot.shares is not None:
        arrays[_SHARES] = snapshot.shares
    if snapshot.limit is not None:
        arrays[_FACTORS], arrays[_BASE] = snapshot.limit.factors, snapshot.limit.base
        arrays[_FLOOR] = np.array(snapshot.limit.floor)
    return arrays


def limit_from(arrays: Arrays) -> ShiftLimit | None:
    """Read what limits a snapshot's shares, if anything does."""
    if _FACTORS not in arrays:
        return None
    return ShiftLimit(arrays[_FACTORS], arrays[_BASE], float(arrays[_FLOOR]))


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Write a model's arrays, to the last bit."""
    written = BytesIO()
    np.savez_compressed(written, allow_pickle=False, **arrays)
    return written.getvalue()


def arrays_from_bytes(written: bytes) -> Arrays:
    """Read what `arrays_to_bytes` wrote; nothing in it is ever run."""
    with np.load(BytesIO(written), allow_pickle=False) as arrays:
        return dict(arrays)
