"""The engine on PostgreSQL without HTTP and without a provider: taking in, claiming, recording."""

import asyncio
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from experiment_engine.adapters.amplitude.payload import parse
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.configuration.loading import load
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.delivery.message import Answer, Verdict
from experiment_engine.domain.events import Fact
from experiment_engine.engine.engine import Engine
from experiment_engine.engine.ground import Ground
from experiment_engine.entrypoints.group_commit import GroupCommit

TAKEN = Answer(Verdict.ACCEPTED, "accepted", answer="", status=200)


@contextmanager
def an_engine(url: str, configuration: Path) -> Iterator[Engine]:
    """Open the engine on a database that has its schema."""
    storage = PostgresStorage(url)
    journal, chance = Journal("json", io.StringIO()), SystemChance()
    ground = Ground(Mode.LIVE, storage, journal, storage.clock, chance)
    engine = Engine(load(configuration), ground)
    with closing(engine):
        engine.open()
        yield engine


def a_trigger(number: int) -> Fact:
    """Return a trigger of a user of its own, as Amplitude would send it."""
    body = (
        f'{{"event_type": "checkout_abandoned", "user_id": "usr_{number}", "device_id": "d",'
        f' "$insert_id": "i{number}", "event_properties": {{"language": "Hindi"}}}}'
    )
    return parse(body.encode())[0]


def drain(engine: Engine, jobs: int) -> float:
    """Return the seconds in which everything that is due is claimed and recorded."""
    began, sent = time.perf_counter(), 0
    while sent < jobs:
        claimed = engine.traffic.claim(dict.fromkeys(engine.rules.channels, 250), ())
        if claimed.calls:
            engine.traffic.record([(call, TAKEN) for call in claimed.calls])
            sent += sum(len(call.recipients) for call in claimed.calls)
    return time.perf_counter() - began


def ingest(engine: Engine, clients: int, seconds: float, first: int) -> int:
    """Return how many triggers `clients` closed-loop clients get answered by group commit."""
    lane = GroupCommit(engine.traffic.take)
    lane.start()
    answered = asyncio.run(_clients(lane, clients, seconds, first))
    lane.stop()
    return answered


async def _clients(lane: GroupCommit, clients: int, seconds: float, first: int) -> int:
    numbers, until = iter(range(first, first + 10**7)), time.perf_counter() + seconds

    async def client() -> int:
        answered = 0
        while time.perf_counter() < until:
            await lane.submit([a_trigger(next(numbers))])
            answered += 1
        return answered

    return sum(await asyncio.gather(*(client() for _ in range(clients))))


def per_request(engine: Engine, clients: int, seconds: float, first: int) -> int:
    """Return the same with a transaction a request, on as many threads as there are clients."""
    until, answered = time.perf_counter() + seconds, [0] * clients

    def client(place: int) -> None:
        number = first + place * 10**6
        while time.perf_counter() < until:
            engine.traffic.take([a_trigger(number)])
            number, answered[place] = number + 1, answered[place] + 1

    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered)


def main(how: str, url: str, configuration: str, clients: int, seconds: float, first: int) -> None:
    """Run one process of the ingest part and print how many triggers were answered."""
    work: Callable[[Engine, int, float, int], int] = ingest if how == "group" else per_request
    with an_engine(url, Path(configuration)) as engine:
        print(work(engine, clients, seconds, first))


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        sys.argv[3],
        int(sys.argv[4]),
        float(sys.argv[5]),
        int(sys.argv[6]),
    )
