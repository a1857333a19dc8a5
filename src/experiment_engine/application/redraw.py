"""Drawing a decision again from what is kept: the same to the last bit, or what differs.

Each check stands alone, so that one says what the others cannot: the set by its digest, the
distribution by its id and, while its snapshot's model is kept, by the model itself; the draw by
the seed; the text by the event and today's copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum
from typing import NamedTuple

import msgspec
import numpy as np

from experiment_engine.application.report_records import DistributionRecord, ExperimentRecord
from experiment_engine.application.triggers import features_of
from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.bandit.snapshot import PolicyInForce, distribution_id
from experiment_engine.domain.delivery.copy import placeholder_values
from experiment_engine.domain.events import Properties
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import (
    CohortName,
    ComboKey,
    DistributionId,
    SnapshotId,
    UserId,
    is_erased_id,
)
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Rules

_SUM_MAY_MISS = 1e-9  # of one: rounding of at most some hundred additions


class Found(StrEnum):
    """What a check came to."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_KEPT = "not kept"  # so it cannot be told


class Check(NamedTuple):
    """One part of a decision, made again."""

    what: str
    found: Found
    why: str = ""


@dataclass(frozen=True, slots=True)
class Redrawn:
    """Every part of a decision, made again."""

    checks: Sequence[Check]

    @property
    def is_equal(self) -> bool:
        """Say whether nothing differs of what is kept."""
        return all(check.found is not Found.DIFFERS for check in self.checks)


@dataclass(frozen=True, slots=True)
class Start:
    """The properties of the event that started an experiment."""

    event: Properties
    user: Properties


@dataclass(frozen=True, slots=True)
class Sources:
    """What a decision is made again from."""

    record: ExperimentRecord
    made: DistributionRecord | None
    policy: PolicyInForce | None  # on the snapshot of the decision; None: not kept
    why_no_policy: str
    start: Start | None
    rules: Rules


def redraw(sources: Sources) -> Redrawn:
    """Make every part of a decision again and compare it with what is stored."""
    made = sources.made
    if made is None:
        return Redrawn([Check("draw", Found.DIFFERS, "its distribution is not there")])
    try:
        eligibility = _eligibility(made)
    except KeyError as error:
        why = f"the eligible set names {error}, which is no combo of its space"
        return Redrawn([Check("eligible", Found.DIFFERS, why)])
    return Redrawn(
        [
            _set(made, eligibility),
            _identity(sources.record, made),
            _probabilities(sources, made, eligibility),
            _draw(sources.record, made, eligibility),
            _context(sources),
            _text(sources),
        ]
    )


def _eligibility(made: DistributionRecord) -> Eligibility:
    places = {key: place for place, key in enumerate(made.space)}
    refused: Mapping[str, tuple[int, ...]] = {
        reason: tuple(places[key] for key in keys) for reason, keys in made.refused.items()
    }
    # The digest is over the words of the reasons, so that one of an older version still fits.
    return Eligibility(
        tuple(places[key] for key in made.propensities),
        refused,  # type: ignore[arg-type]
        made.postponed,
    )


def _set(made: DistributionRecord, eligibility: Eligibility) -> Check:
    if eligibility.digest == made.eligible_id:
        return Check("eligible", Found.EQUAL)
    why = "the digest of the combos, of those refused and of the reasons is another one"
    return Check("eligible", Found.DIFFERS, why)


def _identity(record: ExperimentRecord, made: DistributionRecord) -> Check:
    again = distribution_id(made.snapshot_id, made.eligible_id, made.context)
    if again != made.id or made.id != record.distribution_id:
        why = "its id does not follow from its snapshot, set and context"
    elif record.snapshot_id != made.snapshot_id:
        why = f"the experiment names the snapshot {record.snapshot_id}, it {made.snapshot_id}"
    elif made.context and made.context != record.levels:
        why = f"it is for the context {made.context}, the experiment counts under {record.levels}"
    else:
        return Check("distribution", Found.EQUAL)
    return Check("distribution", Found.DIFFERS, why)


def _probabilities(sources: Sources, made: DistributionRecord, eligibility: Eligibility) -> Check:
    stored = np.array(list(made.propensities.values()), np.float64)
    if not (stored > 0).all() or abs(fsum(stored) - 1) > _SUM_MAY_MISS:
        why = f"they are no distribution: their sum is {fsum(stored)!r}"
        return Check("probabilities", Found.DIFFERS, why)
    if sources.policy is None:
        return Check("probabilities", Found.NOT_KEPT, sources.why_no_policy)
    context = sources.policy.snapshot.levels.parse(made.context)
    again = sources.policy.distribution(eligibility, context).propensities
    if np.array_equal(again, stored):
        return Check("probabilities", Found.EQUAL)
    place = int(np.argmax(np.abs(again - stored)))
    key = list(made.propensities)[place]
    why = f"the snapshot gives {key} {again[place]!r}, stored is {stored[place]!r}"
    return Check("probabilities", Found.DIFFERS, why)


def _draw(record: ExperimentRecord, made: DistributionRecord, eligibility: Eligibility) -> Check:
    shares = list(made.propensities.values())
    again = Distribution.of(
        DistributionId(made.id), SnapshotId(made.snapshot_id), eligibility, shares
    )
    place, propensity = again.draw(record.seed)
    if made.space[place] != record.combo_key:
        why = f"the seed draws {made.space[place]}, stored is {record.combo_key}"
    elif propensity != record.propensity:
        why = f"its probability is {propensity!r}, stored is {record.propensity!r}"
    else:
        return Check("draw", Found.EQUAL)
    return Check("draw", Found.DIFFERS, why)


def _context(sources: Sources) -> Check:
    """Hold the features against the event, and the levels against the features."""
    record = sources.record
    if is_erased_id(UserId(record.user_id)):
        return Check("context", Found.NOT_KEPT, "the user is erased")
    features = msgspec.json.decode(record.context)
    if sources.start is not None and features_of(sources.start.event) != features:
        why = f"the event tells {features_of(sources.start.event)}, stored is {features}"
        return Check("context", Found.DIFFERS, why)
    if sources.policy is None:
        return Check("context", Found.NOT_KEPT, sources.why_no_policy)
    _, levels = sources.policy.levels_of(features)
    if levels == record.levels:
        return Check("context", Found.EQUAL)
    why = f"its features are of the context {levels}, it counts under {record.levels}"
    return Check("context", Found.DIFFERS, why)


def _drawn_text(record: ExperimentRecord) -> tuple[str, str, str]:
    """Return the text that was drawn, whatever went out instead."""
    if record.drawn_text is None:
        return record.language, record.title, record.body
    drawn = msgspec.json.decode(record.drawn_text)
    return drawn["language"], drawn["title"], drawn["body"]


def _text(sources: Sources) -> Check:
    record, rules = sources.record, sources.rules
    if is_erased_id(UserId(record.user_id)):
        return Check("text", Found.NOT_KEPT, "the user is erased")
    if sources.start is None:
        return Check("text", Found.NOT_KEPT, "the event that started it is not kept any more")
    cohort = rules.cohorts.get(CohortName(record.cohort))
    combo = cohort.space.by_key.get(ComboKey(record.combo_key)) if cohort else None
    if cohort is None or combo is None:
        return Check("text", Found.NOT_KEPT, "the configuration has no such combo any more")
    start = sources.start
    chain = rules.languages.chain(start.event.get("language"))
    text = rules.catalogue.find(cohort.name, combo.channel, combo.angle, combo.offer, chain)
    values = placeholder_values(
        tuple(rules.catalogue.placeholders.values()), start.event, start.user
    )
    if text is None or rules.catalogue.missing(text, values):
        return Check("text", Found.NOT_KEPT, f"the copy has changed: {Reason.MISSING_VALUE} now")
    again = (text.language, *rules.catalogue.render(text, values))
    if again == _drawn_text(record):
        return Check("text", Found.EQUAL)
    why = f"today's copy and the event give {again[1]!r}, {again[2]!r} ({again[0]})"
    return Check("text", Found.DIFFERS, why)
