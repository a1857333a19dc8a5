"""Requests that arrive together become one transaction.

There is no timer: while one batch is committed the next one gathers. Each request is answered
after the commit that holds its facts, so 2xx means durable.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import structlog

from experiment_engine.application.results import Result
from experiment_engine.application.take_in import Taken
from experiment_engine.domain.delivery.experiment import Decided, Experiment
from experiment_engine.domain.errors import Overloaded, StorageUnavailable
from experiment_engine.domain.events import Fact, Unreadable
from experiment_engine.domain.identifiers import ExperimentId

log = structlog.get_logger()

BATCH = 512  # facts in one transaction; a single larger request is a batch of its own
WAITING = 8_192  # facts in the queue above which requests are refused

Take = Callable[[Sequence[Fact]], Taken]


@dataclass(slots=True)
class _Request:
    facts: Sequence[Fact]
    answer: asyncio.Future[Taken]
    loop: asyncio.AbstractEventLoop


class GroupCommit:
    """One lane: a thread that takes in whatever waits, a batch at a time."""

    def __init__(self, take: Take) -> None:
        """Use `take` to take in a batch; it returns after the commit."""
        self._take = take
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._waiting = 0  # changed by the event loop (up) and the lane (down), under the lock
        self._lock = threading.Lock()
        self._lane = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        """Begin to take in."""
        self._lane.start()

    def stop(self) -> None:
        """Take in what waits, then end."""
        self._queue.put(None)
        self._lane.join()

    @property
    def is_alive(self) -> bool:
        """Say whether the lane runs."""
        return self._lane.is_alive()

    @property
    def is_full(self) -> bool:
        """Say whether requests must be refused now."""
        return self._waiting >= WAITING

    async def submit(self, facts: Sequence[Fact]) -> Taken:
        """Take the facts in and return after the commit.

        Raises Overloaded when too much waits, and StorageUnavailable when nothing was stored.
        """
        if self.is_full:
            raise Overloaded("More events wait than can be stored now. Send it again in a moment.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Taken] = loop.create_future()
        with self._lock:
            self._waiting += len(facts)
        self._queue.put(_Request(facts, answer, loop))
        return await answer

    def _run(self) -> None:
        while True:
            request = self._queue.get()
            if request is None:
                return
            batch, size, ending = [request], len(request.facts), False
            while size < BATCH:
                try:
                    following = self._queue.get_nowait()
                except Empty:
                    break
                if following is None:
                    ending = True
                    break
                batch.append(following)
                size += len(following.facts)
            self._commit(batch, size)
            if ending:
                return

    def _commit(self, batch: Sequence[_Request], size: int) -> None:
        outcomes = self._outcomes(batch)
        with self._lock:
            self._waiting -= size
        loops = dict.fromkeys(request.loop for request in batch)
        for loop in loops:
            mine = [(r, o) for r, o in zip(batch, outcomes, strict=True) if r.loop is loop]
            try:
                loop.call_soon_threadsafe(_answer, mine)
            except RuntimeError:  # the loop is closed: nobody waits for these answers any more
                log.info("answers_not_awaited", requests=len(mine))

    def _outcomes(self, batch: Sequence[_Request]) -> list[Taken | Exception]:
        facts = [fact for request in batch for fact in request.facts]
        try:
            taken = self._take(facts)
        except StorageUnavailable as error:
            return [error] * len(batch)
        except Exception:
            log.exception("batch_failed", facts=len(facts))
            return [self._one_by_one(request) for request in batch]
        outcomes: list[Taken | Exception] = []
        start = 0
        for request in batch:
            end = start + len(request.facts)
            outcomes.append(Taken(taken.results[start:end], taken.decided))
            start = end
        return outcomes

    def _one_by_one(self, request: _Request) -> Taken | Exception:
        """Take in a failed batch's facts alone: what cannot be taken in goes to quarantine."""
        results: list[Result] = []
        decided: dict[ExperimentId, tuple[Experiment, Decided]] = {}
        try:
            for fact in request.facts:
                taken = self._alone(fact)
                results += taken.results
                decided.update(taken.decided)
        except Exception as error:  # noqa: BLE001 - the requester is told, whatever it is
            return error
        return Taken(results, decided)

    def _alone(self, fact: Fact) -> Taken:
        try:
            return self._take([fact])
        except StorageUnavailable:
            raise
        except Exception:
            log.exception("fact_failed", kind=type(fact).__name__)
            return self._take([Unreadable("engine_error", fact.raw, fact.source)])


def _answer(outcomes: Sequence[tuple[_Request, Taken | Exception]]) -> None:
    for request, outcome in outcomes:
        if request.answer.done():  # the client has gone
            continue
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)
