"""The engine: every use case on its adapters, each a transaction of its own."""

import hmac
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from experiment_engine import __version__
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.adapters.storage.reading_pages import PageReader
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.adapters.system.metrics import Metrics
from experiment_engine.application.audit import (
    Doer,
    erase_and_note,
    note_about,
    pause_and_note,
    release_and_note,
)
from experiment_engine.application.deliver import LEASE, Claimed, Delivering, claim
from experiment_engine.application.evidence import reset_name
from experiment_engine.application.forget import forget_anonymous, forget_quarantined
from experiment_engine.application.gather import Learning, Suspect, gather, trusted_name
from experiment_engine.application.learn import fit, restored
from experiment_engine.application.log_lines import (
    experiment_lines,
    move_lines,
    silence_lines,
)
from experiment_engine.application.manage import (
    CANCELLED_AT_ONCE,
    Stale,
    cancel_some,
    fold_counts,
    prune,
    require_combo,
    waiting_combos_of,
    what_cannot_be_sent,
)
from experiment_engine.application.measure import keep, measure
from experiment_engine.application.noted import Noted
from experiment_engine.application.page_records import ProcessRecord
from experiment_engine.application.pages import Pages
from experiment_engine.application.ports import Chance, Clock, Evidence, Transaction
from experiment_engine.application.preview import Foreseen, foresee
from experiment_engine.application.reconcile import (
    DELIVERED,
    Tally,
    facts_of,
    proofs_of,
    sort_out,
)
from experiment_engine.application.report import Report
from experiment_engine.application.settle import record, recover, renew
from experiment_engine.application.take_in import Deciding, Taken, take_in
from experiment_engine.application.tell import Notices, gather_notices, keep_told
from experiment_engine.application.watch import (
    REMEMBERED,
    fill,
    keep_watch,
    release_source,
    watch,
)
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.errors import OutcomeUnknown, StorageUnavailable
from experiment_engine.domain.events import Fact
from experiment_engine.domain.guardrails import Guardrails
from experiment_engine.domain.identifiers import CallId, Channel, CohortName, ComboKey, UserId
from experiment_engine.domain.moments import HOUR, SECOND, Duration, Instant, hour_of, iso
from experiment_engine.domain.past import ToldLater
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Rules

T = TypeVar("T")

_SCRUBBED = "scrubbed"  # until which erasure the disk is cleared
UPKEEP_LEASE = Duration(30 * SECOND)  # far above the time of a step, a fit among them


@dataclass
class Engine:
    """The use cases on their adapters; every method is one transaction, safe on any thread."""

    rules: Rules
    mode: Mode
    storage: SqliteStorage | PostgresStorage
    journal: Journal
    clock: Clock = field(default_factory=SystemClock)
    chance: Chance = field(default_factory=SystemChance)
    metrics: Metrics = field(default_factory=Metrics)
    policies: dict[CohortName, PolicyInForce] = field(default_factory=dict)
    lease: Duration = LEASE

    def __post_init__(self) -> None:
        """Put the values together that the use cases share."""
        self._holder = self.chance.call_id()  # of leases; the process's name to others
        self._started_at = self.clock.now()
        self._counts_moved = True  # since the newest snapshots; set and read without a lock
        self._in_doubt: OutcomeUnknown | None = None  # a claim that may be stored
        self._rule(self.rules, self.policies)

    def _rule(self, rules: Rules, policies: dict[CohortName, PolicyInForce]) -> None:
        """Put everything under these rules; a batch takes one of these values and keeps to it."""
        guardrails = Guardrails(rules, self.mode)
        self._deciding = Deciding(guardrails, self.chance, self.storage.salt(), policies)
        self._delivering = Delivering(guardrails, self.chance, self.lease)
        self._learning = Learning(rules.cohorts, self.mode, self.chance)
        self.report = Report(StorageReader(self.storage.readers), rules, self.mode, self.clock)
        self.pages = Pages(
            PageReader(self.storage.readers), self.report.reading, rules, self.mode, self.clock
        )
        self.rules, self.guardrails, self.policies = rules, guardrails, policies

    def change_rules(self, rules: Rules, *, who: str) -> None:
        """Go on under another configuration, with what is known about unchanged combos.

        A batch is decided or claimed under one configuration as a whole: the new one is made
        ready beside the old one and put in its place between two. Only the thread that learns
        may call this.
        """
        before, doer = self.rules.fingerprint, self._doer(who)
        policies: dict[CohortName, PolicyInForce] = {}
        self._learn(policies, Learning(rules.cohorts, self.mode, self.chance))
        self._rule(rules, policies)
        self._cancel_what_cannot_be_sent()
        told = {"before": {"fingerprint": before}, "after": {"fingerprint": rules.fingerprint}}
        noted = Noted(doer.who, "changed the configuration", "configuration", **told)
        self.storage.run(lambda tx: tx.note(noted, doer.note_id, doer.at))
        self._tell("configuration changed", configuration=rules.fingerprint[:12], was=before[:12])

    def open(self, *, paused: bool = False) -> None:
        """Put in order what an earlier life left behind; call once, before anything else."""
        if paused:
            self.pause(None, paused=True, who="START_PAUSED")
        self._cancel_what_cannot_be_sent()
        # Where the database is shared, others may hold claims: theirs end with their leases.
        self.recover(all_claims=not self.storage.is_shared)
        self.learn()

    def _cancel_what_cannot_be_sent(self) -> None:
        """Cancel in steps, so that nobody waits for long."""
        stale = self.storage.run(lambda tx: what_cannot_be_sent(self.rules, self.mode, tx))
        for waiting in stale:
            cancelled = self._cancel(waiting)
            self._tell("cancelled", reason=waiting.reason, messages=cancelled)

    def _cancel(self, waiting: Stale) -> int:
        cancelled, some = 0, CANCELLED_AT_ONCE
        while some == CANCELLED_AT_ONCE:
            some = self.storage.run(partial(cancel_some, waiting))
            self.metrics.count_cancelled(waiting.combo_key, waiting.reason, some)
            cancelled += some
        return cancelled

    def take(self, facts: Sequence[Fact]) -> Taken:
        """Take in a batch of facts."""
        began = time.perf_counter()
        taken = self.storage.run(lambda tx: take_in(facts, self._deciding, tx, self.clock.now()))
        self._counts_moved = self._counts_moved or taken.counts_moved
        self.metrics.batch_seconds.observe(time.perf_counter() - began)
        self.metrics.count_results(taken.results)
        self.metrics.count_moves(taken.unreached)
        self.journal.lines(experiment_lines(taken.decided))
        if taken.stopped:
            self._tell_moves(taken.stopped)
        return taken

    def claim(
        self, free: Mapping[Channel, int], under_way: Sequence[CallId], *, thorough: bool = True
    ) -> Claimed:
        """Claim what may go out now, or hand out what turns out to be claimed already."""
        claimed = self._claim_in_doubt() or self._claim(free, under_way, thorough=thorough)
        self._tell_moves(claimed.experiments)
        return claimed

    def _claim_in_doubt(self) -> Claimed | None:
        if self._in_doubt is None:
            return None
        claimed: Claimed | None = self._in_doubt.look()
        self._in_doubt = None
        return claimed

    def _claim(
        self, free: Mapping[Channel, int], under_way: Sequence[CallId], *, thorough: bool
    ) -> Claimed:
        try:
            return self.storage.run(
                lambda tx: claim(
                    free,
                    self._delivering,
                    tx,
                    self.clock.now(),
                    under_way=under_way,
                    thorough=thorough,
                )
            )
        except OutcomeUnknown as doubt:
            self._in_doubt = doubt
            raise

    def record(self, answers: Sequence[tuple[Call, Answer]]) -> None:
        """Record what the provider answered."""
        moved = self.storage.run(
            lambda tx: record(answers, self._delivering, tx, self.clock.now())
        )
        self._tell_moves(moved)

    def renew(self, under_way: Sequence[CallId]) -> None:
        """Keep hold of the calls under way."""
        self.storage.run(lambda tx: renew(under_way, tx, self.clock.now(), self.lease))

    def recover(self, *, all_claims: bool = False) -> None:
        """Settle what dead workers left behind."""
        if not self.storage.is_steady:
            return  # the living have yet to record what they heard while the database was away
        moved = self.storage.run(lambda tx: recover(tx, self.clock.now(), all_claims=all_claims))
        self._tell_moves(moved)

    def learn(self) -> None:
        """Refresh the policies' snapshots where the counters moved.

        Nothing is held while a model is fitted: taking in and delivering go on. Of several
        processes one makes the snapshots, and the others go on with them.
        """
        if not self._counts_moved and not self.storage.is_shared:
            return
        self._counts_moved = False
        self._learn(self.policies, self._learning)

    def _learn(self, policies: dict[CohortName, PolicyInForce], learning: Learning) -> None:
        now = self.clock.now()
        with self.storage.evidence() as evidence:
            self._restore(evidence, policies, learning)
            gathered = gather(policies, learning, evidence, now)
        for suspect in gathered.suspects:
            self._freeze(suspect)
        for material in gathered.materials:
            name = material.cohort.name
            lease = (f"learn:{name}", self._holder, now, UPKEEP_LEASE)
            if not self.storage.run(partial(_take_lease, lease)) and name in policies:
                continue  # another process is at it
            learned = fit(material, learning)
            self.storage.run(partial(self._keep, material.cohort, learned.snapshot))
            policies[name] = learned
        if gathered.more_to_come:
            self._counts_moved = True

    def _keep(self, cohort: Cohort, snapshot: Snapshot, tx: Transaction) -> None:
        tx.add_snapshot(self.mode, cohort, snapshot)

    def _freeze(self, suspect: Suspect) -> None:
        name, frozen = suspect.cohort.name, suspect.frozen
        self.storage.run(lambda tx: tx.freeze(self.mode, name, frozen))
        self._counts_moved = True  # so that the next look goes back to the good snapshot
        self.journal.lines(
            [
                {
                    "event": "learning is frozen",
                    "level": "error",
                    "cohort": name,
                    "reason": frozen.reason,
                    "next": f"the policy stays at {frozen.snapshot_id}; look at the source, then"
                    f" POST /api/cohorts/{name}/unfreeze",
                }
            ]
        )

    def unfreeze(self, cohort: CohortName, *, who: str) -> bool:
        """Trust a cohort's feedback again and go on learning; return whether it was frozen."""
        doer = self._doer(who)

        def work(tx: Transaction) -> bool:
            tx.set_progress(trusted_name(self.mode, cohort), str(hour_of(doer.at) + 1))
            tx.note(Noted(doer.who, "unfroze learning", cohort), doer.note_id, doer.at)
            return tx.unfreeze(self.mode, cohort)

        was_frozen = self.storage.run(work)
        self._counts_moved = True
        self._tell("learning goes on", cohort=cohort)
        return was_frozen

    def _restore(
        self,
        evidence: Evidence,
        policies: dict[CohortName, PolicyInForce],
        learning: Learning,
    ) -> None:
        """Go on with the newest snapshots where this process has none, or an older one.

        A frozen policy goes back to its last good snapshot and stays there.
        """
        frozen = evidence.frozen(self.mode)
        for name, cohort in learning.cohorts.items():
            current = policies.get(name)
            newest = (
                frozen[name].snapshot_id
                if name in frozen
                else evidence.newest_snapshot(self.mode, name)
            )
            if newest is None or (current is not None and current.snapshot.id == newest):
                continue
            stored = evidence.snapshot(newest, cohort)
            if stored is not None:
                policies[name] = restored(stored, cohort)

    def measure(self) -> bool:
        """Add up a little of what has matured; return whether there may be more."""
        more = False
        for cohort in self.rules.cohorts.values():
            with self.storage.evidence() as evidence:
                step = measure(cohort, self.mode, self.rules, evidence, self.clock.now())
            if step is not None:
                self.storage.run(partial(self._under_lease, step.name, partial(keep, step)))
                more = more or step.more
        return more

    def watch(self) -> bool:
        """Listen for sources that fall silent; return whether there may be more to go through."""
        with self.storage.evidence() as evidence:
            found = watch(self.rules, evidence, self.clock.now())
        if found is None:
            return False
        kept = self.storage.run(
            partial(self._under_lease, "watch", lambda tx: keep_watch(found, tx))
        )
        if kept:
            self.journal.lines(silence_lines(found.began, found.ended))
        self.metrics.set_silent(self.report.reading.silences(), self.clock.now())
        return found.more

    def reconcile(self, facts: Sequence[Fact], reports: Sequence[ToldLater]) -> Mapping[str, int]:
        """Take in what partners tell afterwards; return what came of it. Nothing is started."""
        tally, of_no_interest = Tally(), Tally()
        past: list[Fact] = list(sort_out(facts, self.rules, of_no_interest))
        past += facts_of(reports, self.rules, of_no_interest)
        if past:
            tally.update(result.status for result in self.take(past).results)
        delivered = [report for report in reports if report.name == DELIVERED]
        proofs, found = self.storage.run(lambda tx: proofs_of(delivered, self.rules, tx))
        if proofs:
            self.take(proofs)
        return tally + found

    def fill_silences(self, source: str, span: tuple[Instant, Instant], *, who: str) -> int:
        """Let go of a source's silences inside a span of which all was told since."""
        doer = self._doer(who)

        def work(tx: Transaction) -> int:
            filled = fill(source, span, tx, doer.at)
            if filled:
                tx.note(Noted(doer.who, "filled a silence", source), doer.note_id, doer.at)
            return len(filled)

        number = self.storage.run(work)
        self._counts_moved = self._counts_moved or bool(number)
        return number

    def release_source(self, source: str, *, who: str) -> int:
        """Let go of the trials that a source's silences hold; return how many silences."""
        doer = self._doer(who)

        def work(tx: Transaction) -> int:
            known = tx.silences(Instant(doer.at - REMEMBERED))
            released = release_source(source, known, tx, doer.at)
            tx.note(Noted(doer.who, "released a silent source", source), doer.note_id, doer.at)
            return len(released)

        number = self.storage.run(work)
        self._counts_moved = True
        self._tell("a silent source is released", source=source, silences=number)
        return number

    def notices(self) -> Notices | None:
        """Return what analytics is to be told next; None if nobody is, or another process does.

        A dry run tells nothing: nobody was written to.
        """
        if self.mode is not Mode.LIVE:
            return None
        now = self.clock.now()
        lease = ("tell", self._holder, now, UPKEEP_LEASE)
        if not self.storage.run(lambda tx: tx.take_lease(*lease)):
            return None
        with self.storage.evidence() as evidence:
            return gather_notices(self.mode, evidence, now)

    def keep_told(self, notices: Notices) -> None:
        """Remember that analytics has been told."""
        if notices.steps:
            self.storage.run(partial(keep_told, notices))

    def tidy(self) -> bool:
        """Do a little of what keeps the database small; return whether there may be more."""
        now = self.clock.now()
        pruned = self.storage.run(lambda tx: prune(self.rules, tx, now))
        folded = self.storage.run(
            partial(
                self._under_lease,
                "fold",
                lambda tx: fold_counts(self.rules, self.mode, tx, now),
            )
        )
        self.scrub()
        return pruned or bool(folded)

    def _under_lease(
        self, name: str, work: Callable[[Transaction], T], tx: Transaction
    ) -> T | None:
        """Do work that one process does at a time; None where another has its turn."""
        if not tx.take_lease(name, self._holder, self.clock.now(), UPKEEP_LEASE):
            return None
        return work(tx)

    def pause(self, scope: str | None, *, paused: bool, who: str) -> None:
        """Pause or resume a scope, as in `domain.pausing`, or everything."""
        doer = self._doer(who)
        self.storage.run(lambda tx: pause_and_note(scope, self.rules, tx, doer, paused=paused))
        self._tell("paused" if paused else "resumed", scope=scope or "everything")
        if paused:
            self._cancel_what_cannot_be_sent()

    def note_about(self, user_id: UserId, noted: Noted) -> None:
        """Keep what a person changed about a user."""
        doer = self._doer(noted.who)
        self.storage.run(lambda tx: note_about(user_id, noted, tx, doer))

    def cancel_combo(self, cohort: CohortName, combo_key: ComboKey, *, who: str) -> int:
        """Cancel what waits for a combo, in steps; return how many messages that were."""
        doer = self._doer(who)
        found = self.storage.run(lambda tx: waiting_combos_of(cohort, combo_key, self.rules, tx))
        cancelled = sum(self._cancel(waiting) for waiting in found)
        noted = Noted(
            doer.who,
            "cancelled what waits",
            f"{cohort}:{combo_key}",
            after={"messages": cancelled},
        )
        self.storage.run(lambda tx: tx.note(noted, doer.note_id, doer.at))
        self._counts_moved = True
        self._tell("cancelled", reason=Reason.BY_HAND, messages=cancelled, combo_key=combo_key)
        return cancelled

    def reset_combo(self, cohort: CohortName, combo_key: ComboKey, *, who: str) -> Instant:
        """Let a combo's past count no more for learning; return from which trigger on it counts.

        The counts stay and are shown. It is the beginning of the next hour: what was triggered
        earlier, in this hour too, is past.
        """
        require_combo(cohort, combo_key, self.rules)
        doer = self._doer(who)
        hour = hour_of(doer.at) + 1
        begins = Instant(hour * HOUR)
        noted = Noted(
            doer.who, "reset", f"{cohort}:{combo_key}", after={"learns_from": iso(begins)}
        )

        def work(tx: Transaction) -> None:
            tx.set_progress(reset_name(self.mode, cohort, combo_key), str(hour))
            tx.note(noted, doer.note_id, doer.at)

        self.storage.run(work)
        self._counts_moved = True
        self._tell("learns anew", cohort=cohort, combo_key=combo_key, since=iso(begins))
        return begins

    def note(self, noted: Noted) -> None:
        """Keep what a person changed by other ways than a use case of its own."""
        doer = self._doer(noted.who)
        self.storage.run(lambda tx: tx.note(noted, doer.note_id, doer.at))

    def foresee(
        self, user_id: UserId, context: Mapping[str, str], zone: str | None
    ) -> Sequence[Foreseen]:
        """Return what each cohort would decide about a user now; nothing is kept."""
        return self.storage.run(
            lambda tx: foresee(user_id, context, zone, self._deciding, tx, self.clock.now())
        )

    def release(self, number: int, understood: int, *, who: str) -> None:
        """Take a body out of quarantine whose events have been taken in."""
        doer = self._doer(who)
        self.storage.run(lambda tx: release_and_note(number, understood, tx, doer))

    def erase(self, user_id: UserId, *, who: str) -> None:
        """Forget a user: whoever is told so finds nothing personal in any table."""
        doer = self._doer(who)
        cancelled = self.storage.run(lambda tx: erase_and_note(user_id, tx, doer))
        self._tell_moves(cancelled)
        number: int | None = 0
        while number is not None:
            number = self.storage.run(partial(forget_quarantined, user_id, number))
        key: str | None = ""
        while key is not None:
            key = self.storage.run(partial(forget_anonymous, user_id, key))
        self._tell("erased a user")

    def scrub(self) -> None:
        """Clear what the disk still has of users who were erased since it was last cleared."""
        newest = self.storage.run(lambda tx: tx.newest_erasure())
        if newest is None:
            return
        done = self.storage.run(lambda tx: int(tx.progress(_SCRUBBED) or 0))
        if newest > done and self.storage.scrub(newest, self.clock.now()):
            self.storage.run(lambda tx: tx.set_progress(_SCRUBBED, str(newest)))

    def beat(self, kind: str) -> None:
        """Tell the others, and people, that this process lives."""
        now = self.clock.now()
        record = ProcessRecord(
            kind=kind,
            host=platform.node(),
            version=__version__,
            configuration=self.rules.fingerprint,
            started_at=self._started_at,
            seen_at=now,
        )
        self.storage.run(lambda tx: tx.beat(self._holder, record))

    def close(self) -> None:
        """Let go of the database."""
        with suppress(StorageUnavailable):
            self.storage.run(lambda tx: tx.gone(self._holder))
        self.storage.close()

    def key_of(self, purpose: str) -> bytes:
        """Return a key that every process on this database has, another for every purpose."""
        return hmac.digest(self.storage.salt(), purpose.encode(), "sha256")

    def _doer(self, who: str) -> Doer:
        now = self.clock.now()
        return Doer(who, now, self.chance.note_id(now))

    def _tell(self, what: str, **fields: object) -> None:
        self.journal.lines([{"event": what, "level": "info", **fields}])

    def _tell_moves(self, experiments: Sequence[Experiment]) -> None:
        self._counts_moved = self._counts_moved or bool(experiments)
        self.metrics.count_moves(experiments)
        dry_run = self.mode is Mode.DRY_RUN
        self.journal.lines(move_lines(experiments, dry_run=dry_run))


def _take_lease(lease: tuple[str, str, Instant, Duration], tx: Transaction) -> bool:
    return tx.take_lease(*lease)
