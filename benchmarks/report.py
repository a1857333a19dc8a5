"""Samples to one table with ratios, and to JSON."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Outcome

OURS, BASELINE = "ours", "baseline"
_SUSPECT_FOREIGN_CORES = 0.3
_SYNC_MS = 2
_HEADER = (
    *("mode", "conns", "server", "req/s", "(range)", "p50 ms", "p99 ms"),
    *("failed", "RSS MB", "CPU", "other", "req/s ratio", "p99 ratio", "RSS ratio", ""),
)


@dataclass(frozen=True, slots=True)
class Aims:
    """What ours should reach, as multiples of the baseline; None where nothing is asked."""

    per_second: float | None = None
    """At least."""
    p99_ms: float | None = None
    """At most."""
    peak_rss_mb: float | None = None
    """At most."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run both servers, and the aims for each number of connections."""

    name: str
    stubbed: bool = False
    slow_sync: bool = False
    aims: Mapping[int, Aims] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """The whole path on the machine's own disk."""
        return not (self.stubbed or self.slow_sync)


MODES = (
    Mode("full", aims={1: Aims(0.75), 32: Aims(4), 128: Aims(6, p99_ms=1 / 3, peak_rss_mb=1)}),
    Mode("stubbed", stubbed=True),
    Mode("slow_sync", slow_sync=True, aims={128: Aims(15)}),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of the load against one server."""

    mode: str
    server: str
    round: int
    connections: int
    peak_rss_mb: float
    lost: int
    """Acknowledged requests of the server's life that its database does not hold: must be 0."""
    outcome: Outcome

    @property
    def faults(self) -> list[str]:
        """What makes this sample worthless."""
        outcome = self.outcome
        not_slow = self.mode == "slow_sync" and outcome.p50_ms < _SYNC_MS
        found = {
            "ROWS!": self.lost > 0,
            "REFUSED!": outcome.refused > 0,
            "BROKEN!": outcome.broken > 0,
            "SHIM!": not_slow,
        }
        return [name for name, is_so in found.items() if is_so]


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one mode, server and number of connections over all rounds."""

    samples: Sequence[Sample]

    def median(self, figure: Callable[[Outcome], float]) -> float:
        """Return the median of one figure over the rounds."""
        return statistics.median(figure(sample.outcome) for sample in self.samples)

    @property
    def per_second(self) -> float:
        """Acknowledged requests a second."""
        return self.median(lambda outcome: outcome.per_second)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the time to an answer."""
        return self.median(lambda outcome: outcome.p99_ms)

    @property
    def peak_rss_mb(self) -> float:
        """The most memory held up to the end of this run."""
        return statistics.median(sample.peak_rss_mb for sample in self.samples)

    @property
    def faults(self) -> list[str]:
        """All faults of all rounds, each once."""
        return sorted({fault for sample in self.samples for fault in sample.faults})


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours divided by the baseline, and the aim if there is one."""

    value: float
    aim: float | None
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Say whether the aim is reached; None without one."""
        if self.aim is None:
            return None
        return self.value >= self.aim if self.at_least else self.value <= self.aim

    def __str__(self) -> str:
        """Write the ratio with its aim, as `6.70x (>=6 met)`."""
        if self.aim is None:
            return f"{self.value:.2f}x"
        bound, verdict = ">=" if self.at_least else "<=", "met" if self.is_met else "MISSED"
        return f"{self.value:.2f}x ({bound}{self.aim:.2g} {verdict})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both servers in one mode at one number of connections; one may not have run."""

    mode: Mode
    connections: int
    ours: Group | None
    baseline: Group | None

    @property
    def ratios(self) -> dict[str, Ratio]:
        """Return the ratios of the medians by name; none if one server did not run."""
        ours, baseline = self.ours, self.baseline
        if ours is None or baseline is None:
            return {}
        aims = self.mode.aims.get(self.connections, Aims())
        rate = ours.per_second / max(baseline.per_second, 0.001)
        return {
            "per_second": Ratio(rate, aims.per_second, at_least=True),
            "p99_ms": Ratio(ours.p99_ms / baseline.p99_ms, aims.p99_ms),
            "peak_rss_mb": Ratio(ours.peak_rss_mb / baseline.peak_rss_mb, aims.peak_rss_mb),
        }


def table(samples: Sequence[Sample], facts: Mapping[str, object]) -> str:
    """Return the figures for a person: medians over the rounds, ours beside the baseline."""
    rows = [_HEADER, *(row for comparison in _comparisons(samples) for row in _rows(comparison))]
    return page(facts, rows, _notes(samples))


def page(facts: Mapping[str, object], rows: Sequence[Sequence[str]], notes: Iterable[str]) -> str:
    """Put the facts, the rows in columns (the header is the first) and the notes together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    head = ", ".join(f"{name} {value}" for name, value in facts.items())
    return "\n".join([head, "", *lines, "", *notes, ""])


def as_json(
    samples: Sequence[Sample], facts: Mapping[str, object], parameters: Mapping[str, object]
) -> dict[str, object]:
    """Return the figures for a program: every sample, and the ratios of the medians."""
    ratios = [
        {
            "mode": comparison.mode.name,
            "connections": comparison.connections,
            "figure": name,
            "ratio": round(ratio.value, 3),
            "aim": ratio.aim,
            "met": ratio.is_met,
        }
        for comparison in _comparisons(samples)
        for name, ratio in comparison.ratios.items()
    ]
    return {
        "benchmark": "ingest",
        "machine": facts,
        "parameters": parameters,
        "ratios": ratios,
        "samples": [{**dataclasses.asdict(sample), "faults": sample.faults} for sample in samples],
    }


def _comparisons(samples: Sequence[Sample]) -> Iterable[Comparison]:
    """Yield what was measured, in the order of modes and connections."""
    for mode in MODES:
        here = [sample for sample in samples if sample.mode == mode.name]
        for connections in sorted({sample.connections for sample in here}):
            there = [sample for sample in here if sample.connections == connections]
            yield Comparison(mode, connections, _group(there, OURS), _group(there, BASELINE))


def _group(samples: Iterable[Sample], server: str) -> Group | None:
    found = [sample for sample in samples if sample.server == server]
    return Group(found) if found else None


def _rows(comparison: Comparison) -> Iterable[tuple[str, ...]]:
    """Yield our line and the baseline's; the ratios stand in ours."""
    place = (comparison.mode.name, str(comparison.connections))
    ratios = [str(ratio) for ratio in comparison.ratios.values()] or [""] * 3
    if comparison.ours:
        yield (*place, OURS, *_cells(comparison.ours), *ratios, " ".join(comparison.ours.faults))
    if comparison.baseline:
        baseline = comparison.baseline
        yield (*place, BASELINE, *_cells(baseline), *[""] * 3, " ".join(baseline.faults))


def _cells(group: Group) -> Iterable[str]:
    """Yield the figures of one server in the order of the header."""
    rates = [sample.outcome.per_second for sample in group.samples]
    yield f"{group.per_second:,.0f}"
    yield f"({min(rates):,.0f}-{max(rates):,.0f})"
    yield f"{group.median(lambda outcome: outcome.p50_ms):.2f}"
    yield f"{group.p99_ms:.1f}"
    yield str(sum(sample.outcome.refused + sample.outcome.broken for sample in group.samples))
    yield f"{group.peak_rss_mb:.0f}"
    yield f"{group.median(lambda outcome: outcome.server_cores):.2f}"
    yield f"{group.median(lambda outcome: outcome.foreign_cores):.2f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _notes(samples: Sequence[Sample]) -> Iterable[str]:
    """Yield what a reader must know about these figures."""
    yield "Ratios: ours / baseline, of the medians over the rounds. CPU: cores used by the server."
    yield "Other: cores used by anything but server and wrk. RSS: the peak up to the end of a run."
    suspect = sum(sample.outcome.foreign_cores > _SUSPECT_FOREIGN_CORES for sample in samples)
    if suspect:
        share = f"{suspect} of {len(samples)} runs"
        yield f"Read with care: {share} had more than {_SUSPECT_FOREIGN_CORES} other cores busy."
    lost = sum({(s.mode, s.server, s.round): s.lost for s in samples}.values())
    yield f"Acknowledged requests that their database does not hold: {lost}."
