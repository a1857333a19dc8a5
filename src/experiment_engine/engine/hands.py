"""What people do by hand: each change is one transaction with its entry in the audit."""

from dataclasses import dataclass
from functools import partial

from experiment_engine.application.audit import (
    Doer,
    erase_and_note,
    note_about,
    pause_and_note,
    release_and_note,
)
from experiment_engine.application.evidence import reset_name
from experiment_engine.application.forget import forget_anonymous, forget_quarantined
from experiment_engine.application.gather import trusted_name
from experiment_engine.application.manage import (
    CANCELLED_AT_ONCE,
    Stale,
    cancel_some,
    require_combo,
    waiting_combos_of,
    what_cannot_be_sent,
)
from experiment_engine.application.noted import Noted
from experiment_engine.application.ports import Transaction
from experiment_engine.application.watch import REMEMBERED, fill, release_source
from experiment_engine.domain.identifiers import CohortName, ComboKey, UserId
from experiment_engine.domain.moments import HOUR, Instant, hour_of, iso
from experiment_engine.domain.reasons import Reason
from experiment_engine.engine.ground import Ground


@dataclass
class Hands:
    """What a person may do; `who` is never a secret. Safe on any thread."""

    ground: Ground

    def pause(self, scope: str | None, *, paused: bool, who: str) -> None:
        """Pause or resume a scope, as in `domain.pausing`, or everything."""
        ground, doer = self.ground, self.ground.doer(who)
        rules = ground.in_force.rules
        ground.storage.run(lambda tx: pause_and_note(scope, rules, tx, doer, paused=paused))
        ground.tell("paused" if paused else "resumed", scope=scope or "everything")
        if paused:
            self.cancel_what_cannot_be_sent()

    def cancel_what_cannot_be_sent(self) -> None:
        """Cancel what waits for combos that are gone or paused, in steps: nobody waits long."""
        ground = self.ground
        rules = ground.in_force.rules
        stale = ground.storage.run(lambda tx: what_cannot_be_sent(rules, ground.mode, tx))
        for waiting in stale:
            ground.tell("cancelled", reason=waiting.reason, messages=self._cancel(waiting))

    def cancel_combo(self, cohort: CohortName, combo_key: ComboKey, *, who: str) -> int:
        """Cancel what waits for a combo, in steps; return how many messages that were."""
        ground, doer = self.ground, self.ground.doer(who)
        rules = ground.in_force.rules
        found = ground.storage.run(lambda tx: waiting_combos_of(cohort, combo_key, rules, tx))
        cancelled = sum(self._cancel(waiting) for waiting in found)
        target, after = f"{cohort}:{combo_key}", {"messages": cancelled}
        self._note(Noted(doer.who, "cancelled what waits", target, after=after), doer)
        ground.counts_moved.set()
        ground.tell("cancelled", reason=Reason.BY_HAND, messages=cancelled, combo_key=combo_key)
        return cancelled

    def reset_combo(self, cohort: CohortName, combo_key: ComboKey, *, who: str) -> Instant:
        """Let a combo's past count no more for learning; return from which trigger on it counts.

        The counts stay and are shown. It is the beginning of the next hour: what was triggered
        earlier, in this hour too, is past.
        """
        ground, doer = self.ground, self.ground.doer(who)
        require_combo(cohort, combo_key, ground.in_force.rules)
        hour = hour_of(doer.at) + 1
        begins = Instant(hour * HOUR)
        target, after = f"{cohort}:{combo_key}", {"learns_from": iso(begins)}
        noted = Noted(doer.who, "reset", target, after=after)

        def work(tx: Transaction) -> None:
            tx.set_progress(reset_name(ground.mode, cohort, combo_key), str(hour))
            tx.note(noted, doer.note_id, doer.at)

        ground.storage.run(work)
        ground.counts_moved.set()
        ground.tell("learns anew", cohort=cohort, combo_key=combo_key, since=iso(begins))
        return begins

    def unfreeze(self, cohort: CohortName, *, who: str) -> bool:
        """Trust a cohort's feedback again and go on learning; return whether it was frozen."""
        ground, doer = self.ground, self.ground.doer(who)

        def work(tx: Transaction) -> bool:
            tx.set_progress(trusted_name(ground.mode, cohort), str(hour_of(doer.at) + 1))
            tx.note(Noted(doer.who, "unfroze learning", cohort), doer.note_id, doer.at)
            return tx.unfreeze(ground.mode, cohort)

        was_frozen = ground.storage.run(work)
        ground.counts_moved.set()
        ground.tell("learning goes on", cohort=cohort)
        return was_frozen

    def fill_silences(self, source: str, span: tuple[Instant, Instant], *, who: str) -> int:
        """Let go of a source's silences inside a span of which all was told since."""
        ground, doer = self.ground, self.ground.doer(who)

        def work(tx: Transaction) -> int:
            filled = fill(source, span, tx, doer.at)
            if filled:
                tx.note(Noted(doer.who, "filled a silence", source), doer.note_id, doer.at)
            return len(filled)

        number = ground.storage.run(work)
        if number:
            ground.counts_moved.set()
        return number

    def release_source(self, source: str, *, who: str) -> int:
        """Let go of the trials that a source's silences hold; return how many silences."""
        ground, doer = self.ground, self.ground.doer(who)

        def work(tx: Transaction) -> int:
            known = tx.silences(Instant(doer.at - REMEMBERED))
            released = release_source(source, known, tx, doer.at)
            tx.note(Noted(doer.who, "released a silent source", source), doer.note_id, doer.at)
            return len(released)

        number = ground.storage.run(work)
        ground.counts_moved.set()
        ground.tell("a silent source is released", source=source, silences=number)
        return number

    def release(self, number: int, understood: int, *, who: str) -> None:
        """Take a body out of quarantine whose events have been taken in."""
        doer = self.ground.doer(who)
        self.ground.storage.run(lambda tx: release_and_note(number, understood, tx, doer))

    def erase(self, user_id: UserId, *, who: str) -> None:
        """Forget a user: whoever is told so finds nothing personal in any table."""
        storage, doer = self.ground.storage, self.ground.doer(who)
        self.ground.tell_moves(storage.run(lambda tx: erase_and_note(user_id, tx, doer)))
        number: int | None = 0
        while number is not None:
            number = storage.run(partial(forget_quarantined, user_id, number))
        key: str | None = ""
        while key is not None:
            key = storage.run(partial(forget_anonymous, user_id, key))
        self.ground.tell("erased a user")

    def note(self, noted: Noted) -> None:
        """Keep what a person changed by other ways than a use case of its own."""
        self._note(noted, self.ground.doer(noted.who))

    def note_about(self, user_id: UserId, noted: Noted) -> None:
        """Keep what a person changed about a user."""
        doer = self.ground.doer(noted.who)
        self.ground.storage.run(lambda tx: note_about(user_id, noted, tx, doer))

    def _note(self, noted: Noted, doer: Doer) -> None:
        self.ground.storage.run(lambda tx: tx.note(noted, doer.note_id, doer.at))

    def _cancel(self, waiting: Stale) -> int:
        cancelled, some = 0, CANCELLED_AT_ONCE
        while some == CANCELLED_AT_ONCE:
            some = self.ground.storage.run(partial(cancel_some, waiting))
            self.ground.metrics.count_cancelled(waiting.combo_key, waiting.reason, some)
            cancelled += some
        return cancelled
