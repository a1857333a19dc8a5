"""What goes on beside the traffic, in small steps: learning, measuring, keeping house, telling."""

import platform
from dataclasses import dataclass
from functools import partial

from experiment_engine import __version__
from experiment_engine.application.gather import Learning, Material, Suspect, gather
from experiment_engine.application.learn import fit, restored
from experiment_engine.application.log_lines import silence_lines
from experiment_engine.application.manage import fold_counts, prune
from experiment_engine.application.measure import keep, measure
from experiment_engine.application.page_records import ProcessRecord
from experiment_engine.application.ports import Evidence
from experiment_engine.application.tell import Notices, gather_notices, keep_told
from experiment_engine.application.watch import keep_watch, watch
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.engine.ground import Ground

_SCRUBBED = "scrubbed"  # until which erasure the disk is cleared


@dataclass
class Duties:
    """Steps that one thread of a process goes; of several processes one goes each at a time."""

    ground: Ground

    def learn(self) -> None:
        """Refresh the policies' snapshots where the counters moved.

        Nothing is held while a model is fitted: taking in and delivering go on. Of several
        processes one makes the snapshots, and the others go on with them.
        """
        ground = self.ground
        if not ground.counts_moved.is_set() and not ground.storage.is_shared:
            return
        ground.counts_moved.clear()
        try:
            self.refresh(ground.in_force.policies, ground.in_force.learning)
        except Exception:
            ground.counts_moved.set()  # what moved is not learned yet
            raise

    def refresh(self, policies: dict[CohortName, PolicyInForce], learning: Learning) -> None:
        """Bring policies to the newest snapshots of their cohorts, made here where that is due."""
        ground, now = self.ground, self.ground.clock.now()
        with ground.storage.evidence() as evidence:
            _restore(evidence, policies, learning)
            gathered = gather(policies, learning, evidence, now)
        for suspect in gathered.suspects:
            self._freeze(suspect)
        for material in gathered.materials:
            name = material.cohort.name
            if not ground.take_turn(f"learn:{name}") and name in policies:
                continue  # another process is at it
            policies[name] = self._make(material, learning)
        if gathered.more_to_come:
            ground.counts_moved.set()

    def measure(self) -> bool:
        """Add up a little of what has matured; return whether there may be more."""
        ground, more = self.ground, False
        rules = ground.in_force.rules
        for cohort in rules.cohorts.values():
            with ground.storage.evidence() as evidence:
                step = measure(cohort, ground.mode, rules, evidence, ground.clock.now())
            if step is not None:
                ground.in_turn(step.name, partial(keep, step))
                more = more or step.more
        return more

    def watch(self) -> bool:
        """Listen for sources that fall silent; return whether there may be more to go through."""
        ground = self.ground
        with ground.storage.evidence() as evidence:
            found = watch(ground.in_force.rules, evidence, ground.clock.now())
        if found is None:
            return False
        if ground.in_turn("watch", partial(keep_watch, found)):
            ground.journal.lines(silence_lines(found.began, found.ended))
        silences = ground.in_force.report.reading.silences()
        ground.metrics.set_silent(silences, ground.clock.now())
        return found.more

    def tidy(self) -> bool:
        """Do a little of what keeps the database small; return whether there may be more."""
        ground, now, rules = self.ground, self.ground.clock.now(), self.ground.in_force.rules
        pruned = ground.storage.run(lambda tx: prune(rules, tx, now))
        folded = ground.in_turn("fold", lambda tx: fold_counts(rules, ground.mode, tx, now))
        self.scrub()
        return pruned or bool(folded)

    def scrub(self) -> None:
        """Clear what the disk still has of users who were erased since it was last cleared."""
        storage = self.ground.storage
        newest = storage.run(lambda tx: tx.newest_erasure())
        if newest is None:
            return
        done = storage.run(lambda tx: int(tx.progress(_SCRUBBED) or 0))
        if newest > done and storage.scrub(newest, self.ground.clock.now()):
            storage.run(lambda tx: tx.set_progress(_SCRUBBED, str(newest)))

    def beat(self, kind: str) -> None:
        """Tell the others, and people, that this process lives."""
        ground = self.ground
        record = ProcessRecord(
            kind=kind,
            host=platform.node(),
            version=__version__,
            configuration=ground.in_force.rules.fingerprint,
            started_at=ground.started_at,
            seen_at=ground.clock.now(),
        )
        ground.storage.run(lambda tx: tx.beat(ground.holder, record))

    def notices(self) -> Notices | None:
        """Return what analytics is to be told next; None if nobody is, or another process does.

        A dry run tells nothing: nobody was written to.
        """
        ground = self.ground
        if ground.mode is not Mode.LIVE or not ground.take_turn("tell"):
            return None
        with ground.storage.evidence() as evidence:
            return gather_notices(ground.mode, evidence, ground.clock.now())

    def keep_told(self, notices: Notices) -> None:
        """Remember that analytics has been told."""
        if notices.steps:
            self.ground.storage.run(partial(keep_told, notices))

    def _make(self, material: Material, learning: Learning) -> PolicyInForce:
        mode, cohort, learned = self.ground.mode, material.cohort, fit(material, learning)
        self.ground.storage.run(lambda tx: tx.add_snapshot(mode, cohort, learned.snapshot))
        return learned

    def _freeze(self, suspect: Suspect) -> None:
        ground, name, frozen = self.ground, suspect.cohort.name, suspect.frozen
        ground.storage.run(lambda tx: tx.freeze(ground.mode, name, frozen))
        ground.counts_moved.set()  # so that the next look goes back to the good snapshot
        ground.tell(
            "learning is frozen",
            level="error",
            cohort=name,
            reason=frozen.reason,
            next=f"the policy stays at {frozen.snapshot_id}; look at the source, then"
            f" POST /api/cohorts/{name}/unfreeze",
        )


def _restore(
    evidence: Evidence, policies: dict[CohortName, PolicyInForce], learning: Learning
) -> None:
    """Go on with the newest snapshots where this process has none, or an older one.

    A frozen policy goes back to its last good snapshot and stays there.
    """
    frozen = evidence.frozen(learning.mode)
    for name, cohort in learning.cohorts.items():
        current = policies.get(name)
        newest = (
            frozen[name].snapshot_id
            if name in frozen
            else evidence.newest_snapshot(learning.mode, name)
        )
        if newest is None or (current is not None and current.snapshot.id == newest):
            continue
        stored = evidence.snapshot(newest, cohort)
        if stored is not None:
            policies[name] = restored(stored, cohort)
