"""Statements off the hot paths: one text for every database, in SQLAlchemy Core."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    cast,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.application.changes import ALL_DAYS
from experiment_engine.application.noted import Noted
from experiment_engine.application.page_records import ProcessRecord
from experiment_engine.application.ports import Retained
from experiment_engine.domain.bandit.reward import Counts
from experiment_engine.domain.delivery.experiment import WAITING, Mode, State
from experiment_engine.domain.delivery.limits import OfferUse
from experiment_engine.domain.identifiers import (
    ERASED,
    Channel,
    CohortName,
    ComboKey,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant, hour_of

_OF_USERS = (
    tables.event,
    tables.goal_reached,
    tables.choice,
    tables.counted,
    tables.recipient,
)
_COUNTS = [tables.combo_count.c[name] for name in Counts.__dataclass_fields__]


@dataclass(frozen=True)
class ColdStatements:
    """What learning and operators read and write, in the transaction of the connection."""

    core: Connection
    erasure_key: bytes

    def failures_in_a_row(self, *, exact: bool = False) -> Mapping[Channel, int]:
        """Return how many calls of each channel the provider refused since it last took one."""
        del exact  # its writer has the database to itself
        health = tables.channel_health.c
        found = self.core.execute(select(health.channel, health.failures_in_a_row))
        return {Channel(channel): failures for channel, failures in found}

    def set_failures_in_a_row(
        self, channel: Channel, failures: int, next_probe_at: Instant | None
    ) -> None:
        """Remember a channel's refusals; with a next probe it is not eligible but for that."""
        health = tables.channel_health
        now = {"failures_in_a_row": failures, "next_probe_at": next_probe_at}
        known = self.core.execute(update(health).where(health.c.channel == channel).values(now))
        if not known.rowcount:
            self.core.execute(health.insert().values(channel=channel, **now))

    def offers_used(self, mode: Mode, day: int, *, exact: bool = False) -> Mapping[str, OfferUse]:
        """Return how many messages carried each offer on a day (days since 1970), and in all."""
        del exact  # its writer has the database to itself
        use = tables.offer_use.c
        found = self.core.execute(
            select(use.offer, use.day, use.used).where(
                use.mode == mode.value, use.day.in_((day, ALL_DAYS))
            )
        )
        used: dict[str, dict[int, int]] = {}
        for offer, which, number in found:
            used.setdefault(offer, {})[which] = int(number)
        return {offer: OfferUse(by.get(day, 0), by.get(ALL_DAYS, 0)) for offer, by in used.items()}

    def set_paused(self, scope: str, *, paused: bool, at: Instant) -> None:
        """Pause or resume one cohort, or EVERYTHING."""
        pause = tables.pause
        known = self.core.execute(select(pause.c.scope).where(pause.c.scope == scope)).first()
        if paused and known is None:
            self.core.execute(pause.insert().values(scope=scope, since=at))
        if not paused:
            self.core.execute(delete(pause).where(pause.c.scope == scope))

    def paused(self) -> frozenset[str]:
        """Return the scopes that are paused."""
        return frozenset(self.core.execute(select(tables.pause.c.scope)).scalars())

    def release(self, number: int) -> bool:
        """Take one body out of quarantine; return whether it was there."""
        kept = tables.quarantine
        return self.core.execute(delete(kept).where(kept.c.id == number)).rowcount > 0

    def note(self, noted: Noted, note_id: str, at: Instant) -> None:
        """Keep what a person changed; ids sort by time."""
        self.core.execute(
            tables.audit.insert().values(
                id=note_id,
                at=at,
                who=noted.who,
                what=noted.what,
                target=noted.target,
                before=rows.to_json(noted.before),
                after=rows.to_json(noted.after),
            )
        )

    def beat(self, process_id: str, process: ProcessRecord) -> None:
        """Keep that a process lives."""
        known = tables.process
        row = asdict(process)
        beaten = self.core.execute(update(known).where(known.c.id == process_id).values(row))
        if not beaten.rowcount:
            self.core.execute(known.insert().values(id=process_id, **row))

    def gone(self, process_id: str) -> None:
        """Forget a process that ended."""
        self.core.execute(delete(tables.process).where(tables.process.c.id == process_id))

    def prune(self, past: Retained, limit: int) -> int:
        """Delete at most `limit` rows of each kind that are older; return how many went."""
        made, tried, kept = tables.experiment, tables.attempt, tables.event
        first_kept = rows.first_id_at(past.experiments)  # ids sort by the time of the decision
        ended = made.c.state.not_in([state.value for state in WAITING])
        gone = [
            self._delete_some(table, old, limit)
            for table, old in (
                (kept, kept.c.received_at < past.events),
                (tables.counted, tables.counted.c.at < past.counted),
                (tables.source_hour, tables.source_hour.c.hour < hour_of(past.events)),
                (tables.quarantine, tables.quarantine.c.received_at < past.experiments),
                (tables.goal_reached, tables.goal_reached.c.at < past.goals),
                (tried, tried.c.experiment_id < first_kept),
                (made, (made.c.id < first_kept) & ended),
                (tables.batch, tables.batch.c.at < past.batches),
                (tables.process, tables.process.c.seen_at < past.batches),
            )
        ]
        if past.raw_events > past.events:
            gone.append(self._empty_some_events(past.raw_events, limit))
        return max(gone)

    def _delete_some(self, table: Table, old: ColumnElement[bool], limit: int) -> int:
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(old).limit(limit)
        some = some.with_for_update(skip_locked=True)  # what is locked is for another step
        return self.core.execute(delete(table).where(key.in_(some))).rowcount

    def _empty_some_events(self, before: Instant, limit: int) -> int:
        # The event stays known for as long as it may come again; its bytes go.
        kept = tables.event
        key = tuple_(*kept.primary_key.columns)
        some = (
            select(*kept.primary_key.columns)
            .where(kept.c.received_at < before, kept.c.raw != b"")
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return self.core.execute(update(kept).where(key.in_(some)).values(raw=b"")).rowcount

    def waiting_combos(self) -> list[tuple[CohortName, ComboKey, Mode]]:
        """Return which combos of which mode wait to be sent."""
        made = tables.experiment.c
        found = self.core.execute(
            select(made.cohort, made.combo_key, made.mode)
            .where(made.state == State.SCHEDULED.value)
            .distinct()
        )
        return [(CohortName(c), ComboKey(key), Mode(mode)) for c, key, mode in found]

    def waiting_for(
        self, cohort: CohortName, combo: ComboKey, mode: Mode, limit: int
    ) -> list[tuple[UserId, ExperimentId]]:
        """Return some of what waits for a combo."""
        made = tables.experiment.c
        found = self.core.execute(
            select(made.user_id, made.id)
            .where(
                made.state == State.SCHEDULED.value,
                made.cohort == cohort,
                made.combo_key == combo,
                made.mode == mode.value,
            )
            .limit(limit)
        )
        return [(UserId(user_id), ExperimentId(id_)) for user_id, id_ in found]

    def newest_erasure(self) -> Instant | None:
        """Return when a user was forgotten last."""
        at = self.core.execute(select(func.max(tables.erased.c.at))).scalar()
        return None if at is None else Instant(at)

    def quarantined_after(self, number: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return the next bodies in quarantine, by their numbers."""
        kept = tables.quarantine.c
        query = select(kept.id, kept.raw).where(kept.id > number).order_by(kept.id).limit(limit)
        return [(id_, bytes(raw)) for id_, raw in self.core.execute(query)]

    def empty_quarantined(self, numbers: Sequence[int]) -> None:
        """Take the bytes out of bodies in quarantine; that they came stays known."""
        kept = tables.quarantine
        nothing = {"raw": b"", "digest": literal(ERASED) + cast(kept.c.id, Text)}
        self.core.execute(update(kept).where(kept.c.id.in_(numbers)).values(nothing))

    def nobodys_events_after(self, key: str, limit: int) -> Sequence[tuple[str, bytes]]:
        """Return the next events that name no user, by their keys."""
        kept = tables.event.c
        query = (
            select(kept.dedup_key, kept.raw)
            .where(kept.user_id == "", kept.dedup_key > key)
            .order_by(kept.dedup_key)
            .limit(limit)
        )
        return [(found, bytes(raw)) for found, raw in self.core.execute(query)]

    def empty_nobodys_events(self, keys: Sequence[str]) -> None:
        """Take the bytes out of events that name no user; that they came stays known."""
        kept = tables.event
        theirs = (kept.c.user_id == "") & kept.c.dedup_key.in_(keys)
        self.core.execute(update(kept).where(theirs).values(raw=b""))

    def erase(self, user_id: UserId, at: Instant) -> None:
        """Remove all that is personal, and remember only a keyed hash of the user id.

        The experiments stay, without the person: counts and propensities are still needed.
        """
        hashed = rows.user_hash(user_id, self.erasure_key)
        made, tried = tables.experiment, tables.attempt
        nobody = f"{ERASED}{hashed}"
        theirs = select(made.c.id).where(made.c.user_id == user_id)
        self.core.execute(
            update(tried)
            .where(tried.c.experiment_id.in_(theirs), tried.c.user_id == user_id)
            .values(user_id=nobody, answer=None)
        )
        self.core.execute(
            update(made)
            .where(made.c.user_id == user_id)
            .values(
                user_id=nobody,
                title="",
                body="",
                context="{}",
                event_key="",
                zone="UTC",
                facts="",
                stand_ins="",
                drawn_text=None,
                address=None,
            )
        )
        noted = tables.audit
        self.core.execute(update(noted).where(noted.c.target == user_id).values(target=nobody))
        outcome, cohorts = tables.user_outcome.c, select(tables.experiment_count.c.cohort)
        self.core.execute(  # by its whole key: there is a row for everybody who ever came
            delete(tables.user_outcome).where(
                outcome.mode.in_([mode.value for mode in Mode]),
                outcome.cohort.in_(cohorts),
                outcome.user_id == user_id,
            )
        )
        for table in _OF_USERS:
            self.core.execute(delete(table).where(table.c.user_id == user_id))
        if not self.core.execute(
            select(func.count()).where(tables.erased.c.user_hash == hashed)
        ).scalar_one():
            self.core.execute(tables.erased.insert().values(user_hash=hashed, at=at))
