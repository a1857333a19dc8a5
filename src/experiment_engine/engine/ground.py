"""What every part of the engine stands on: the adapters, and the configuration in force."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.adapters.storage.reading_pages import PageReader
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.adapters.system.metrics import Metrics
from experiment_engine.application.audit import Doer
from experiment_engine.application.deliver import LEASE, Delivering
from experiment_engine.application.gather import Learning
from experiment_engine.application.log_lines import move_lines
from experiment_engine.application.pages import Pages
from experiment_engine.application.ports import Chance, Clock, Transaction
from experiment_engine.application.report import Report
from experiment_engine.application.take_in import Deciding
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.guardrails import Guardrails
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.moments import SECOND, Duration
from experiment_engine.domain.rules import Rules

T = TypeVar("T")

UPKEEP_LEASE = Duration(30 * SECOND)  # far above the time of a step, a fit among them


@dataclass(frozen=True, slots=True)
class InForce:
    """One configuration with what follows from it; a batch takes one of these and keeps to it."""

    rules: Rules
    deciding: Deciding
    delivering: Delivering
    learning: Learning
    policies: dict[CohortName, PolicyInForce]  # kept up by the thread that learns
    report: Report
    pages: Pages


@dataclass
class Ground:
    """The adapters, what the parts tell one another, and the configuration in force."""

    mode: Mode
    storage: SqliteStorage | PostgresStorage
    journal: Journal
    clock: Clock
    chance: Chance
    metrics: Metrics = field(default_factory=Metrics)
    lease: Duration = LEASE  # of a claim
    # since the newest snapshots; what moves nothing leaves it alone, so that no sign is lost
    counts_moved: threading.Event = field(default_factory=threading.Event)
    in_force: InForce = field(init=False)  # put in its place as a whole

    def __post_init__(self) -> None:
        """Give the process its name to others, and let the first look find moved counts."""
        self.holder = self.chance.call_id()  # of leases
        self.started_at = self.clock.now()
        self.counts_moved.set()

    def under(self, rules: Rules, policies: dict[CohortName, PolicyInForce]) -> InForce:
        """Return what follows from a configuration; it is not in force before it is put there."""
        guardrails = Guardrails(rules, self.mode)
        readers, salt = self.storage.readers, self.storage.salt()
        report = Report(StorageReader(readers), rules, self.mode, self.clock)
        return InForce(
            rules,
            Deciding(guardrails, self.chance, salt, policies),
            Delivering(guardrails, self.chance, self.lease),
            Learning(rules.cohorts, self.mode, self.chance),
            policies,
            report,
            Pages(PageReader(readers), report.reading, rules, self.mode, self.clock),
        )

    def doer(self, who: str) -> Doer:
        """Return who changes something now."""
        now = self.clock.now()
        return Doer(who, now, self.chance.note_id(now))

    def take_turn(self, name: str) -> bool:
        """Take or keep the lease of work that one process does at a time."""
        return self.storage.run(partial(self._has_turn, name))

    def in_turn(self, name: str, work: Callable[[Transaction], T]) -> T | None:
        """Do such work in the transaction that takes its lease; None: another has its turn."""
        return self.storage.run(lambda tx: work(tx) if self._has_turn(name, tx) else None)

    def tell(self, what: str, **fields: object) -> None:
        """Write a line of the log."""
        self.journal.lines([{"event": what, "level": "info", **fields}])

    def tell_moves(self, experiments: Sequence[Experiment]) -> None:
        """Tell log, metrics and learning of experiments that moved."""
        if experiments:
            self.counts_moved.set()
        self.metrics.count_moves(experiments)
        dry_run = self.mode is Mode.DRY_RUN
        self.journal.lines(move_lines(experiments, dry_run=dry_run))

    def _has_turn(self, name: str, tx: Transaction) -> bool:
        return tx.take_lease(name, self.holder, self.clock.now(), UPKEEP_LEASE)
