"""Numbers for Prometheus; counted once a batch, never per event."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experiment_engine.application.results import Result, leaves
from experiment_engine.domain.delivery.experiment import Experiment, State
from experiment_engine.domain.identifiers import ComboKey
from experiment_engine.domain.measurement.silence import Silence
from experiment_engine.domain.moments import SECOND, Instant

_FIRST = (State.CLAIMED, State.HELD_OUT)  # when a message is replaced


class Metrics:
    """The engine's own registry: nothing global, so that two engines do not mix."""

    def __init__(self) -> None:
        """Register every metric."""
        self.registry = CollectorRegistry()
        self.events = Counter(
            "experiment_engine_events",
            "Answers to events, one for each cohort concerned, by status and reason.",
            ["status", "reason"],
            registry=self.registry,
        )
        self.deliveries = Counter(
            "experiment_engine_deliveries",
            "Moves of deliveries, by state, channel and reason.",
            ["state", "channel", "reason"],
            registry=self.registry,
        )
        self.replaced = Counter(
            "experiment_engine_replaced",
            "Messages that went out as something else than what was drawn, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "experiment_engine_batch_seconds",
            "Time to take in one batch, commit included.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self.registry,
        )
        self.silent_seconds = Gauge(
            "experiment_engine_source_silent_seconds",
            "For how long a source has been silent, against its rhythm; absent if it is not.",
            ["source", "told"],
            registry=self.registry,
        )
        self.calls_in_flight = Gauge(
            "experiment_engine_calls_in_flight",
            "Calls at the provider under way.",
            ["channel"],
            registry=self.registry,
        )

    def set_silent(self, silences: Iterable[Silence], now: Instant) -> None:
        """Tell for how long each silent source has been so."""
        self.silent_seconds.clear()
        for silence in silences:
            if silence.until is None and silence.filled_at is None:
                seconds = (now - silence.since) / SECOND
                self.silent_seconds.labels(silence.source, silence.told).set(seconds)

    def count_results(self, results: Iterable[Result]) -> None:
        """Count what a batch was answered."""
        tally = Tally((result.status, result.reason or "") for result in leaves(results))
        for (status, reason), number in tally.items():
            self.events.labels(status, reason).inc(number)

    def count_moves(self, experiments: Iterable[Experiment]) -> None:
        """Count what became of deliveries."""
        experiments = list(experiments)
        for experiment in experiments:
            if experiment.replaced_for and experiment.state in _FIRST and experiment.attempts <= 1:
                self.replaced.labels(experiment.replaced_for).inc()
        tally = Tally((e.state, e.channel, e.reason or "") for e in experiments)
        for (state, channel, reason), number in tally.items():
            self.deliveries.labels(state, channel, reason).inc(number)

    def count_cancelled(self, combo_key: ComboKey, reason: str, messages: int) -> None:
        """Count messages of a combo that were cancelled together."""
        channel = combo_key.split("|")[1]
        self.deliveries.labels(State.CANCELLED, channel, reason).inc(messages)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
