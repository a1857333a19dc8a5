"""Stand-ins for what is outside: chance that is counted, a provider. The clock is in clock.py."""

from collections.abc import Callable, Mapping
from hashlib import blake2b

from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.identifiers import CallId, ExperimentId, SnapshotId, UserId
from experiment_engine.domain.moments import Duration, Instant


class CountingChance:
    """UUIDv7s that count, and seeds that look like chance and are the same every time.

    An engine that is opened again on the same database needs the same one, or ids come twice.
    """

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}

    def experiment_id(self, at: Instant) -> ExperimentId:
        stamp = f"{at:012x}"
        number = self._next("experiment")
        return ExperimentId(f"{stamp[:8]}-{stamp[8:]}-7000-8000-{number:012x}")

    def call_id(self) -> CallId:
        return CallId(f"call-{self._next('call'):05}")

    def note_id(self, at: Instant) -> str:
        return f"note-{self._next('note'):05}"

    def snapshot_id(self) -> SnapshotId:
        return SnapshotId(f"snapshot-{self._next('snapshot'):05}")

    def seed(self) -> int:
        number = self._next("seed").to_bytes(8)
        return int.from_bytes(blake2b(number, digest_size=8).digest()) >> 1

    def _next(self, kind: str) -> int:
        self._asked[kind] = self._asked.get(kind, 0) + 1
        return self._asked[kind]


Answering = Callable[[Call], Answer]


class FakeSender:
    """Answers every call by one function, and remembers the calls."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.calls: list[Call] = []

    async def send(self, call: Call) -> Answer:
        self.calls.append(call)
        return self._answering(call)

    async def close(self) -> None:
        return None


def an_answer(
    verdict: Verdict = Verdict.ACCEPTED,
    reason: str = "",
    *,
    exceptions: Mapping[str, Verdict] | None = None,
    retry_after: Duration | None = None,
    whole_call: bool = True,
) -> Answer:
    """Return what a provider answered; by default it took the call."""
    return Answer(
        verdict,
        reason or verdict.value,
        answer="as told",
        status=200 if verdict is Verdict.ACCEPTED else None,
        retry_after=retry_after,
        whole_call=whole_call,
        exceptions={UserId(user): (own, own.value) for user, own in (exceptions or {}).items()},
    )
