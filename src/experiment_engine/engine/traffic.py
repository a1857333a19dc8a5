"""What the webhooks and the worker do: take in, claim, record."""

import time
from collections.abc import Mapping, Sequence

from experiment_engine.application.deliver import Claimed, claim
from experiment_engine.application.log_lines import experiment_lines
from experiment_engine.application.preview import Foreseen, foresee
from experiment_engine.application.reconcile import (
    DELIVERED,
    Tally,
    facts_of,
    proofs_of,
    sort_out,
)
from experiment_engine.application.settle import record, recover, renew
from experiment_engine.application.take_in import Taken, take_in
from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.errors import OutcomeUnknown
from experiment_engine.domain.events import Fact
from experiment_engine.domain.identifiers import CallId, Channel, UserId
from experiment_engine.domain.past import ToldLater
from experiment_engine.engine.ground import Ground


class Traffic:
    """What comes in and what goes out; every method is one transaction, safe on any thread."""

    def __init__(self, ground: Ground) -> None:
        """Take the time from the ground's clock."""
        self.ground, self.clock, self.lease = ground, ground.clock, ground.lease
        self._in_doubt: OutcomeUnknown | None = None  # a claim that may be stored

    def take(self, facts: Sequence[Fact]) -> Taken:
        """Take in a batch of facts."""
        ground, began = self.ground, time.perf_counter()
        taken = ground.storage.run(
            lambda tx: take_in(facts, ground.in_force.deciding, tx, self.clock.now())
        )
        if taken.counts_moved:
            ground.counts_moved.set()
        ground.metrics.batch_seconds.observe(time.perf_counter() - began)
        ground.metrics.count_results(taken.results)
        ground.metrics.count_moves(taken.unreached)
        ground.journal.lines(experiment_lines(taken.decided))
        if taken.stopped:
            ground.tell_moves(taken.stopped)
        return taken

    def reconcile(self, facts: Sequence[Fact], reports: Sequence[ToldLater]) -> Mapping[str, int]:
        """Take in what partners tell afterwards; return what came of it. Nothing is started."""
        rules, tally, of_no_interest = self.ground.in_force.rules, Tally(), Tally()
        past: list[Fact] = list(sort_out(facts, rules, of_no_interest))
        past += facts_of(reports, rules, of_no_interest)
        if past:
            tally.update(result.status for result in self.take(past).results)
        delivered = [report for report in reports if report.name == DELIVERED]
        proofs, found = self.ground.storage.run(lambda tx: proofs_of(delivered, rules, tx))
        if proofs:
            self.take(proofs)
        return tally + found

    def foresee(
        self, user_id: UserId, context: Mapping[str, str], zone: str | None
    ) -> Sequence[Foreseen]:
        """Return what each cohort would decide about a user now; nothing is kept."""
        deciding = self.ground.in_force.deciding
        return self.ground.storage.run(
            lambda tx: foresee(user_id, context, zone, deciding, tx, self.clock.now())
        )

    def claim(
        self, free: Mapping[Channel, int], under_way: Sequence[CallId], *, thorough: bool = True
    ) -> Claimed:
        """Claim what may go out now, or hand out what turns out to be claimed already."""
        claimed = self._claim_in_doubt() or self._claim(free, under_way, thorough=thorough)
        self.ground.tell_moves(claimed.experiments)
        return claimed

    def record(self, answers: Sequence[tuple[Call, Answer]]) -> None:
        """Record what the provider answered."""
        ground = self.ground
        ground.tell_moves(
            ground.storage.run(
                lambda tx: record(answers, ground.in_force.delivering, tx, self.clock.now())
            )
        )

    def renew(self, under_way: Sequence[CallId]) -> None:
        """Keep hold of the calls under way."""
        self.ground.storage.run(lambda tx: renew(under_way, tx, self.clock.now(), self.lease))

    def recover(self, *, all_claims: bool = False) -> None:
        """Settle what dead workers left behind."""
        storage = self.ground.storage
        if not storage.is_steady:
            return  # the living have yet to record what they heard while the database was away
        self.ground.tell_moves(
            storage.run(lambda tx: recover(tx, self.clock.now(), all_claims=all_claims))
        )

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
            return self.ground.storage.run(
                lambda tx: claim(
                    free,
                    self.ground.in_force.delivering,
                    tx,
                    self.clock.now(),
                    under_way=under_way,
                    thorough=thorough,
                )
            )
        except OutcomeUnknown as doubt:
            self._in_doubt = doubt
            raise
