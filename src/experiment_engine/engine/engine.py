"""The engine: its parts on one ground, opened, put under other rules and closed together."""

import hmac
from collections.abc import Mapping
from contextlib import suppress

from experiment_engine.application.noted import Noted
from experiment_engine.application.pages import Pages
from experiment_engine.application.report import Report
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.rules import Rules
from experiment_engine.engine.duties import Duties
from experiment_engine.engine.ground import Ground
from experiment_engine.engine.hands import Hands
from experiment_engine.engine.traffic import Traffic


class Engine:
    """What comes in and goes out (`traffic`), what is done beside (`duties`) and by `hands`."""

    def __init__(self, rules: Rules, ground: Ground) -> None:
        """Put the parts on their ground, under these rules."""
        self.ground = ground
        self.mode, self.storage, self.clock = ground.mode, ground.storage, ground.clock
        self.metrics, self.counts_moved = ground.metrics, ground.counts_moved
        ground.in_force = ground.under(rules, {})
        self.traffic, self.duties, self.hands = Traffic(ground), Duties(ground), Hands(ground)

    @property
    def rules(self) -> Rules:
        """Return the configuration in force."""
        return self.ground.in_force.rules

    @property
    def policies(self) -> Mapping[CohortName, PolicyInForce]:
        """Return the policies on the newest snapshots that this process knows."""
        return self.ground.in_force.policies

    @property
    def report(self) -> Report:
        """Return what answers questions of the API and the command line, under these rules."""
        return self.ground.in_force.report

    @property
    def pages(self) -> Pages:
        """Return what answers those of the dashboard's pages."""
        return self.ground.in_force.pages

    def open(self, *, paused: bool = False) -> None:
        """Put in order what an earlier life left behind; call once, before anything else."""
        if paused:
            self.hands.pause(None, paused=True, who="START_PAUSED")
        self.hands.cancel_what_cannot_be_sent()
        # Where the database is shared, others may hold claims: theirs end with their leases.
        self.traffic.recover(all_claims=not self.storage.is_shared)
        self.duties.learn()

    def change_rules(self, rules: Rules, *, who: str) -> None:
        """Go on under another configuration, with what is known about unchanged combos.

        A batch is decided or claimed under one configuration as a whole: the new one is made
        ready beside the old one and put in its place between two. Only the thread that learns
        may call this. Where the database goes away meanwhile, the old one stays in force.
        """
        ground, before = self.ground, self.ground.in_force
        policies: dict[CohortName, PolicyInForce] = {}
        following = ground.under(rules, policies)
        self.duties.refresh(policies, following.learning)
        ground.in_force = following
        try:
            self.hands.cancel_what_cannot_be_sent()
            was, now = before.rules.fingerprint, rules.fingerprint
            told = {"before": {"fingerprint": was}, "after": {"fingerprint": now}}
            self.hands.note(Noted(who, "changed the configuration", "configuration", **told))
        except StorageUnavailable:
            ground.in_force = before
            raise
        ground.tell("configuration changed", configuration=now[:12], was=was[:12])

    def close(self) -> None:
        """Let go of the database."""
        with suppress(StorageUnavailable):
            self.storage.run(lambda tx: tx.gone(self.ground.holder))
        self.storage.close()

    def key_of(self, purpose: str) -> bytes:
        """Return a key that every process on this database has, another for every purpose."""
        return hmac.digest(self.storage.salt(), purpose.encode(), "sha256")
