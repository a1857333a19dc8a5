"""What taking in, claiming and recording read and write, on SQLite's only writing connection."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

from experiment_engine.adapters.storage import rows, statements
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


@dataclass(frozen=True)
class HotStatements:
    """The statements of the webhook's path and the worker's, in one transaction."""

    connection: sqlite3.Connection
    erasure_key: bytes

    def seen(
        self, keys: Sequence[tuple[UserId, str]]
    ) -> dict[tuple[UserId, str], ExperimentId | None]:
        """Return the events among these that are kept already, and what each led to."""
        if not keys:
            return {}
        found = self.connection.execute(statements.SEEN, (rows.to_json(keys),))
        return {(user_id, key): experiment_id for user_id, key, experiment_id in found}

    def owners(self, experiment_ids: Sequence[ExperimentId]) -> Mapping[ExperimentId, UserId]:
        """Return whose the experiments are; unknown ids are left out."""
        return dict(
            self.connection.execute(statements.OWNERS, (rows.to_json(experiment_ids),)).fetchall()
        )

    def users(
        self, user_ids: Sequence[UserId], since: Instant, named: Sequence[ExperimentId]
    ) -> dict[UserId, User]:
        """Return the users that are known, with what decisions about them depend on."""
        wanted = rows.to_json(user_ids)
        users: dict[UserId, User] = {}
        self._load_experiments(users, wanted, since, named)
        for user_id, goal, at in self.connection.execute(statements.USERS_GOALS, (wanted,)):
            _known(users, user_id).goals[EventName(goal)] = at
        for row in self.connection.execute(statements.USERS_CHOICES, (wanted,)):
            _add_choice(users, *row)
        for user_id, cohort, key, at in self.connection.execute(
            statements.USERS_COUNTED, (wanted,)
        ):
            waiting = _known(users, user_id).counted.setdefault(CohortName(cohort), [])
            waiting.append(Counted(key, at))
        self._mark_erased(users, user_ids)
        return users

    def _load_experiments(
        self,
        users: dict[UserId, User],
        wanted: str,
        since: Instant,
        named: Sequence[ExperimentId],
    ) -> None:
        loaded = set()
        for row in self.connection.execute(statements.USERS_EXPERIMENTS, (wanted, since)):
            experiment = rows.experiment_from(row)
            loaded.add(experiment.id)
            _known(users, experiment.user_id).experiments.append(experiment)
        missing = [experiment_id for experiment_id in named if experiment_id not in loaded]
        if not missing:
            return
        for row in self.connection.execute(statements.NAMED_EXPERIMENTS, (rows.to_json(missing),)):
            experiment = rows.experiment_from(row)
            _known(users, experiment.user_id).experiments.append(experiment)

    def _mark_erased(self, users: dict[UserId, User], user_ids: Sequence[UserId]) -> None:
        if self.connection.execute("SELECT 1 FROM erased LIMIT 1").fetchone() is None:
            return
        hashes = {rows.user_hash(user_id, self.erasure_key): user_id for user_id in user_ids}
        found = self.connection.execute(statements.ERASED, (rows.to_json(list(hashes)),))
        for (found_hash,) in found.fetchall():
            _known(users, hashes[found_hash]).erased = True

    def switches(self, now: Instant) -> Switches:
        """Return what is switched off, offers apart."""
        paused = self.connection.execute("SELECT scope FROM pause")
        failing = self.connection.execute(
            "SELECT channel, next_probe_at > ? FROM channel_health WHERE next_probe_at NOT NULL",
            (now,),
        ).fetchall()
        return Switches(
            paused=frozenset(scope for (scope,) in paused),
            failing=frozenset(channel for channel, closed in failing if closed),
            probing=frozenset(channel for channel, closed in failing if not closed),
        )

    def due(
        self,
        channel: Channel,
        now: Instant,
        limit: int,
        *,
        held_out: bool,
        paused: Sequence[CohortName],
    ) -> list[Due]:
        """Return deliveries whose time has come, the longest waiting first."""
        values = (channel, held_out, now, now, rows.to_json(paused), limit)
        return [Due(*row) for row in self.connection.execute(statements.DUE, values)]

    def renew(self, call_ids: Sequence[CallId], until: Instant) -> None:
        """Extend the leases of calls that are still under way."""
        self.connection.execute(statements.RENEW, (until, rows.to_json(call_ids)))

    def abandoned(self, now: Instant | None) -> list[tuple[UserId, ExperimentId]]:
        """Return what is claimed by calls whose lease ended before `now`; None: by any call."""
        return self.connection.execute(statements.ABANDONED, (now, now)).fetchall()

    def store(self, changes: Changes) -> None:
        """Write everything that a batch changed, a group of rows a statement."""
        run = self._run
        run(statements.ADD_EVENT, [rows.event_row(stored) for stored in changes.events])
        run(
            statements.ADD_QUARANTINED,
            [rows.quarantined_row(q) for q in changes.quarantined],
        )
        # What changes goes first: an experiment that ends makes room for a new one.
        self._store_changed(changes.changed.values())
        run(
            statements.ADD_EXPERIMENT,
            [rows.new_experiment_row(*decided) for decided in changes.decided.values()],
        )
        self._store_distributions(changes)
        self._store_people(changes)
        self._store_counts(changes)
        self._store_attempts(changes)
        self._run(
            "UPDATE channel_health SET next_probe_at = ? WHERE channel = ?",
            [(at, channel) for channel, at in changes.probed.items()],
        )

    def _store_distributions(self, changes: Changes) -> None:
        sets = {
            id(made.eligibility): rows.eligible_set_row(made.eligibility)
            for _, made in changes.distributions.values()
        }
        self._run(statements.ADD_ELIGIBLE_SET, list(sets.values()))
        self._run(
            statements.ADD_DISTRIBUTION,
            [
                rows.distribution_row(cohort, made, "", sets[id(made.eligibility)][0])
                for cohort, made in changes.distributions.values()
            ],
        )

    def _store_changed(self, changed: Iterable[Experiment]) -> None:
        self._run(
            statements.CHANGE_EXPERIMENT,
            [rows.changed_experiment_row(experiment) for experiment in changed],
        )

    def _store_people(self, changes: Changes) -> None:
        self._run(
            statements.ADD_GOAL, [(*key, worth) for key, worth in sorted(changes.goals.items())]
        )
        self._run(
            statements.ADD_CHOICE,
            [(u, channel, ok, at, who.value) for u, channel, ok, at, who in changes.choices],
        )
        self._run(
            statements.ADD_COUNTED,
            [(user_id, cohort, event.key, event.at) for user_id, cohort, event in changes.counted],
        )
        self._run(statements.USE_UP_COUNTED, changes.used_up)
        self._run(
            "DELETE FROM erased WHERE user_hash = ?",
            [(rows.user_hash(user_id, self.erasure_key),) for user_id in changes.pardoned],
        )

    def _store_counts(self, changes: Changes) -> None:
        self._run(statements.ADD_COUNTS, _count_rows(changes))
        self._run(
            statements.ADD_EXPERIMENT_COUNT,
            [(m.value, cohort, held, n) for (m, cohort, held), n in changes.experiments.items()],
        )
        self._run(
            statements.ADD_OFFER_USE,
            [(m.value, offer, day, n) for (m, offer, day), n in changes.offers_used.items()],
        )

    def _store_attempts(self, changes: Changes) -> None:
        self._run(
            statements.BEGIN_ATTEMPT,
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
            statements.END_ATTEMPT,
            [rows.ended_attempt_row(ended) for ended in changes.attempts_ended],
        )

    def _run(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        if values:
            self.connection.executemany(statement, values)


def _count_rows(changes: Changes) -> list[tuple[object, ...]]:
    """Return the sums of each hour and context, and those of all; in the order of their keys."""
    sums: dict[CounterKey, Counts] = {}
    for (mode, cohort, hour, context, combo, group), counts in changes.counts.items():
        sums[mode, cohort, hour, context, combo, group] = counts
        every = (mode, cohort, ALL_HOURS, "", combo, group)
        sums[every] = sums.get(every, NOTHING) + counts
    return [
        (mode.value, cohort, hour, context, combo, group.value, *astuple(counts))
        for (mode, cohort, hour, context, combo, group), counts in sorted(sums.items())
    ]


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
