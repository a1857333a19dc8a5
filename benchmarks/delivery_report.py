"""The delivery benchmark's samples to one table with ratios, and to JSON."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import report
from benchmarks.draining import Scenario, Sent

_SUSPECT_FOREIGN_CORES = 0.3
_HEADER = (
    *("users/call", "in flight", "latency ms", "messages", "ours/s", "calls/s", "client/s"),
    *("ratio", "our CPU", "client CPU", "other", "lost", "doubled", ""),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario, once with the engine and once with the bare client."""

    scenario: Scenario
    round: int
    ours: Sent
    client: Sent

    @property
    def faults(self) -> list[str]:
        """What makes this sample worthless."""
        both = (self.ours, self.client)
        found = {
            "LOST!": any(sent.lost for sent in both),
            "DOUBLED!": any(sent.doubled for sent in both),
            "ROWS!": self.ours.unrecorded != 0,
            "REFUSED!": any(sent.refused for sent in both),
        }
        return [name for name, is_so in found.items() if is_so]


def table(samples: Sequence[Sample], facts: Mapping[str, object]) -> str:
    """Return the figures for a person: medians over the rounds, a scenario a line."""
    rows = [_HEADER, *(tuple(_row(group)) for group in _groups(samples))]
    return report.page(facts, rows, _notes(samples))


def as_json(
    samples: Sequence[Sample], facts: Mapping[str, object], parameters: Mapping[str, object]
) -> dict[str, object]:
    """Return the figures for a program: every sample, and the ratios of the medians."""
    ratios = [
        {**dataclasses.asdict(group[0].scenario), "ratio": round(_ratio(group), 4)}
        for group in _groups(samples)
    ]
    return {
        "benchmark": "delivery",
        "machine": facts,
        "parameters": parameters,
        "ratios": ratios,
        "samples": [{**dataclasses.asdict(sample), "faults": sample.faults} for sample in samples],
    }


def _groups(samples: Sequence[Sample]) -> Iterable[Sequence[Sample]]:
    """Yield the samples of each scenario over all rounds, in the order measured."""
    for scenario in dict.fromkeys(sample.scenario for sample in samples):
        yield [sample for sample in samples if sample.scenario == scenario]


def _row(group: Sequence[Sample]) -> Iterable[str]:
    """Yield the cells of one scenario in the order of the header."""
    scenario = group[0].scenario
    ours = _median(group, lambda sample: sample.ours.per_second)
    users = _median(group, lambda sample: sample.ours.messages / max(sample.ours.calls, 1))
    yield str(scenario.batch)
    yield str(scenario.in_flight)
    yield f"{scenario.latency_ms:g}"
    yield f"{group[0].ours.messages:,}"
    yield f"{ours:,.0f}"
    yield f"{ours / max(users, 1):,.0f}"
    yield f"{_median(group, lambda sample: sample.client.per_second):,.0f}"
    yield f"{_ratio(group):.2f}x" if scenario.batch == 1 else f"{_ratio(group):.3f}x"
    yield f"{_median(group, lambda sample: sample.ours.cores):.2f}"
    yield f"{_median(group, lambda sample: sample.client.cores):.2f}"
    yield f"{max(_foreign_cores(sample) for sample in group):.2f}"
    yield str(sum(sample.ours.lost + sample.client.lost for sample in group))
    yield str(sum(sample.ours.doubled + sample.client.doubled for sample in group))
    yield " ".join(sorted({fault for sample in group for fault in sample.faults}))


def _ratio(group: Sequence[Sample]) -> float:
    client = _median(group, lambda sample: sample.client.per_second)
    return _median(group, lambda sample: sample.ours.per_second) / max(client, 0.001)


def _median(group: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    return statistics.median(map(figure, group))


def _foreign_cores(sample: Sample) -> float:
    return max(sample.ours.foreign_cores, sample.client.foreign_cores)


def _notes(samples: Sequence[Sample]) -> Iterable[str]:
    """Yield what a reader must know about these figures."""
    yield "Messages a second at the provider double: from the worker inside `serve`, and from the"
    yield "bare HTTP client with as many calls in flight. Ratio: ours / client, of the medians."
    yield "CPU: cores used by the engine, by the client. Other: by anything else on the machine."
    suspect = sum(_foreign_cores(sample) > _SUSPECT_FOREIGN_CORES for sample in samples)
    if suspect:
        share = f"{suspect} of {len(samples)} samples"
        yield f"Read with care: {share} had more than {_SUSPECT_FOREIGN_CORES} other cores busy."
