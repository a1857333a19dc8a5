"""What taking in, claiming and recording read and write; the same on every database."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from typing import Any, ClassVar

from experiment_engine.adapters.storage import rows
from experiment_engine.adapters.storage.statements import HotSql
from experiment_engine.adapters.storage.tables import ALL_HOURS
from experiment_engine.application.changes import Changes, CounterKey
from experiment_engine.application.ports import Switches
from experiment_engine.domain.bandit.reward import NOTHING, Counts
from experiment_engine.domain.cohorts.counting import Counted
from experiment_engine.domain.cohorts.user import Choice, User
from experiment_engine.domain.delivery.experiment import Due, Experiment
from experiment_engine.domain.identifiers import (
    CallId,
    Channel,
    CohortName,
    EventName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant

Question = tuple[str, Sequence[object]]  # a statement and its values

_EVERY_CHANNEL = "*"  # the lane of the send rate, which is over all
_KEY_OF_EVENT = itemgetter(0, 1)  # user and key, of a row


@dataclass(frozen=True)
class HotStatements(ABC):
    """The statements of the webhook's path and the worker's, in one transaction."""

    erasure_key: bytes
    sql: ClassVar[HotSql]

    @abstractmethod
    def _ask(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Return the rows that a statement finds."""

    @abstractmethod
    def _ask_all(self, *questions: Question) -> list[Sequence[tuple[Any, ...]]]:
        """Return the rows that each of several statements finds."""

    @abstractmethod
    def _run(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        """Run a statement for all of these rows; without any, not at all."""

    @abstractmethod
    def _keys(self, keys: Sequence[str]) -> object:
        """Return a list of keys as a statement takes it."""

    @abstractmethod
    def _pairs(self, keys: Sequence[tuple[str, str]]) -> Sequence[object]:
        """Return a list of pairs of keys as a statement takes it."""

    def seen(
        self, keys: Sequence[tuple[UserId, str]]
    ) -> dict[tuple[UserId, str], ExperimentId | None]:
        """Return the events among these that are kept already, and what each led to."""
        if not keys:
            return {}
        found = self._ask(self.sql.SEEN, *self._pairs(keys))
        return {(user_id, key): experiment_id for user_id, key, experiment_id in found}

    def owners(self, experiment_ids: Sequence[ExperimentId]) -> Mapping[ExperimentId, UserId]:
        """Return whose the experiments are; unknown ids are left out."""
        return {row[0]: row[1] for row in self._ask(self.sql.OWNERS, self._keys(experiment_ids))}

    def users_reached_at(self, hashes: Sequence[str]) -> Mapping[str, Sequence[UserId]]:
        """Return who was to be written to at these addresses."""
        found: dict[str, list[UserId]] = {}
        for hashed, user_id in self._ask(self.sql.RECIPIENTS, self._keys(hashes)):
            found.setdefault(hashed, []).append(UserId(user_id))
        return found

    def users(
        self, user_ids: Sequence[UserId], since: Instant, named: Sequence[ExperimentId]
    ) -> dict[UserId, User]:
        """Return the users that are known, with what decisions about them depend on."""
        wanted = self._keys(user_ids)
        experiments, goals, choices, counted, any_erased = self._ask_all(
            (self.sql.USERS_EXPERIMENTS, (wanted, since)),
            (self.sql.USERS_GOALS, (wanted,)),
            (self.sql.USERS_CHOICES, (wanted,)),
            (self.sql.USERS_COUNTED, (wanted,)),
            (self.sql.ANY_ERASED, ()),
        )
        users: dict[UserId, User] = {}
        self._add_experiments(users, experiments, named)
        for user_id, goal, at in goals:
            _known(users, user_id).goals[EventName(goal)] = at
        for row in choices:
            _add_choice(users, *row)
        for user_id, cohort, key, at in counted:
            waiting = _known(users, user_id).counted.setdefault(CohortName(cohort), [])
            waiting.append(Counted(key, at))
        if any_erased:
            self._mark_erased(users, user_ids)
        return users

    def _add_experiments(
        self,
        users: dict[UserId, User],
        found: Sequence[tuple[Any, ...]],
        named: Sequence[ExperimentId],
    ) -> None:
        loaded = set()
        for row in found:
            experiment = rows.experiment_from(row)
            loaded.add(experiment.id)
            _known(users, experiment.user_id).experiments.append(experiment)
        missing = [experiment_id for experiment_id in named if experiment_id not in loaded]
        if not missing:
            return
        for row in self._ask(self.sql.NAMED_EXPERIMENTS, self._keys(missing)):
            experiment = rows.experiment_from(row)
            _known(users, experiment.user_id).experiments.append(experiment)

    def _mark_erased(self, users: dict[UserId, User], user_ids: Sequence[UserId]) -> None:
        hashes = {rows.user_hash(user_id, self.erasure_key): user_id for user_id in user_ids}
        for found_hash, at in self._ask(self.sql.ERASED, self._keys(list(hashes))):
            _known(users, hashes[found_hash]).erased_at = at

    def switches(self, now: Instant) -> Switches:
        """Return what is switched off, offers apart."""
        paused, failing = self._ask_all((self.sql.PAUSED, ()), (self.sql.FAILING, (now,)))
        return Switches(
            paused=frozenset(scope for (scope,) in paused),
            failing=frozenset(channel for channel, closed in failing if closed),
            probing=frozenset(channel for channel, closed in failing if not closed),
        )

    def due(
        self,
        limits: Mapping[tuple[Channel, bool], int],
        now: Instant,
        paused: Sequence[CohortName],
    ) -> list[Due]:
        """Return deliveries whose time has come, the longest waiting first."""
        left_out = self._keys(paused)
        found = self._ask_all(
            *(
                (self.sql.DUE, (channel, held_out, now, now, left_out, limit))
                for (channel, held_out), limit in limits.items()
            )
        )
        return [Due(*row) for rows_found in found for row in rows_found]

    def rate_free_at(self) -> int:
        """Return when the send rate allows the next message, in microseconds since 1970."""
        return next((int(at) for (at,) in self._ask(self.sql.RATE_FREE_AT)), 0)

    def renew(self, call_ids: Sequence[CallId], until: Instant) -> None:
        """Extend the leases of calls that are still under way."""
        self._ask(self.sql.RENEW, until, self._keys(call_ids))

    def abandoned(self, now: Instant | None) -> list[tuple[UserId, ExperimentId]]:
        """Return what is claimed by calls whose lease ended before `now`; None: by any call."""
        return [(row[0], row[1]) for row in self._ask(self.sql.ABANDONED, now, now)]

    def store(self, changes: Changes) -> None:
        """Write everything that a batch changed, a group of rows a statement.

        Every batch goes through the tables in this order and through shared rows in the order
        of their keys, so that batches of several processes wait for one another at most once.
        The counters, which all of them share, come last and are held for the shortest time.
        """
        events = [rows.event_row(stored) for stored in changes.events]
        self._run(self.sql.ADD_EVENT, sorted(events, key=_KEY_OF_EVENT))
        self._run(self.sql.ADD_QUARANTINED, [rows.quarantined_row(q) for q in changes.quarantined])
        # What changes goes first: an experiment that ends makes room for a new one.
        self._store_changed(changes.changed.values())
        self._run(
            self.sql.ADD_EXPERIMENT,
            [rows.new_experiment_row(*decided) for decided in changes.decided.values()],
        )
        replaced = [rows.replaced_text_row(one) for one in changes.replaced]
        self._run(self.sql.REPLACE_TEXT, replaced)
        self._store_distributions(changes)
        self._store_people(changes)
        self._store_attempts(changes)
        probed = [(at, channel) for channel, at in sorted(changes.probed.items())]
        self._run(self.sql.PROBED, probed)
        if changes.rate_free_at is not None:
            self._run(self.sql.SET_RATE_FREE_AT, [(_EVERY_CHANNEL, changes.rate_free_at)])
        self._store_counts(changes)

    def _store_distributions(self, changes: Changes) -> None:
        made = [one for _, one in sorted(changes.distributions.items(), key=itemgetter(0))]
        sets = {one.eligibility.digest: one.eligibility for _, one in made}
        self._run(
            self.sql.ADD_ELIGIBLE_SET, [rows.eligible_set_row(sets[key]) for key in sorted(sets)]
        )
        self._run(self.sql.ADD_DISTRIBUTION, [rows.distribution_row(*one) for one in made])

    def _store_changed(self, changed: Iterable[Experiment]) -> None:
        self._run(
            self.sql.CHANGE_EXPERIMENT,
            [rows.changed_experiment_row(experiment) for experiment in changed],
        )

    def _store_people(self, changes: Changes) -> None:
        self._run(
            self.sql.ADD_GOAL, [(*key, worth) for key, worth in sorted(changes.goals.items())]
        )
        self._run(
            self.sql.ADD_CHOICE,
            [(*c[:4], c.source.value, *c.terms) for c in changes.choices],
        )
        self._run(self.sql.ADD_RECIPIENT, sorted(set(changes.recipients)))
        self._run(
            self.sql.ADD_COUNTED,
            [(user_id, cohort, event.key, event.at) for user_id, cohort, event in changes.counted],
        )
        self._run(self.sql.USE_UP_COUNTED, changes.used_up)
        self._run(
            self.sql.PARDON,
            [(rows.user_hash(user_id, self.erasure_key),) for user_id in changes.pardoned],
        )

    def _store_counts(self, changes: Changes) -> None:
        self._run(self.sql.ADD_COUNTS, _count_rows(changes))
        self._run(
            self.sql.ADD_CONVERSIONS,
            [
                (mode.value, cohort, hour, combo, group.value, source, bucket, number)
                for (mode, cohort, hour, combo, group, source, bucket), number in sorted(
                    changes.conversions.items()
                )
                if number
            ],
        )
        self._run(
            self.sql.ADD_EXPERIMENT_COUNT,
            sorted(
                (m.value, cohort, held, n) for (m, cohort, held), n in changes.experiments.items()
            ),
        )
        self._run(
            self.sql.ADD_ANSWERS,
            sorted((m.value, *key, number) for (m, *key), number in changes.answers.items()),
        )
        self._run(
            self.sql.ADD_OFFER_USE,
            sorted((m.value, offer, day, n) for (m, offer, day), n in changes.offers_used.items()),
        )

    def _store_attempts(self, changes: Changes) -> None:
        self._run(
            self.sql.BEGIN_ATTEMPT,
            [
                (
                    begun.id,
                    begun.user_id,
                    begun.attempts,
                    begun.call_id,
                    begun.placed_at,
                )
                for begun in changes.attempts_begun
            ],
        )
        self._run(
            self.sql.END_ATTEMPT,
            [rows.ended_attempt_row(ended) for ended in changes.attempts_ended],
        )


def _count_rows(changes: Changes) -> list[tuple[object, ...]]:
    """Return the sums of each hour and context, and those of all; in the order of their keys."""
    sums: dict[CounterKey, Counts] = {}
    for (mode, cohort, hour, context, combo, group), counts in changes.counts.items():
        sums[mode, cohort, hour, context, combo, group] = counts
        every = (mode, cohort, ALL_HOURS, "", combo, group)
        sums[every] = sums.get(every, NOTHING) + counts
    return [
        (mode.value, cohort, hour, context, combo, group.value, *_numbers(counts))
        for (mode, cohort, hour, context, combo, group), counts in sorted(sums.items())
    ]


# `astuple` of dataclasses takes as long as the whole statement.
_numbers = attrgetter(*(field.name for field in fields(Counts)))


def _known(users: dict[UserId, User], user_id: UserId) -> User:
    user = users.get(user_id)
    if user is None:
        user = users[user_id] = User(user_id)
    return user


def _add_choice(
    users: dict[UserId, User],
    user_id: UserId,
    channel: Channel,
    allowed: int,
    at: Instant,
) -> None:
    choice = _known(users, user_id).choices.setdefault(channel, Choice())
    if allowed:
        choice.yes_at = at
    else:
        choice.no_at = at
