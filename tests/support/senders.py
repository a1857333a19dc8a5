"""Senders of webhooks with the patience that partners have, and what became of each event.

    with senders(port, seed) as sent:
        ...  # restart the engine
    assert not sent.lost

CleverTap waits three seconds for an answer and tries once more; every request has a connection of
its own. Amplitude waits longer, tries for hours, and keeps its connections open.
"""

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from tests.support.crash import HOST, TRIGGER, History, Json, Kind, Told


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sender waits for an answer, how often it tries, and with how long between."""

    waits: float  # seconds
    tries: int
    between: float  # seconds
    keeps_connections: bool


CLEVERTAP = Patience(waits=3.0, tries=2, between=0.0, keeps_connections=False)
AMPLITUDE = Patience(waits=10.0, tries=20, between=0.5, keeps_connections=True)

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Sent:
    """What became of everything that was sent."""

    history: History = field(default_factory=History)
    lost: list[str] = field(default_factory=list)  # given up by their sender
    refused: list[float] = field(default_factory=list)  # when nobody listened
    broken_off: int = 0  # connections that ended without an answer
    timed_out: int = 0
    answered: list[float] = field(default_factory=list)  # when
    slowest: float = 0.0  # seconds from the first try to an answer

    def longest_silence(self, since: float, until: float) -> float:
        """Return the longest time without an answer between two moments, in seconds."""
        at = [since, *sorted(one for one in self.answered if since < one < until), until]
        return max(b - a for a, b in pairwise(at))


class _Sender:
    """Sends at an even rate, whatever became of what it sent before."""

    def __init__(self, port: int, patience: Patience, sent: Sent) -> None:
        self._port, self._patience, self._sent = port, patience, sent
        self._free: list[_Connection] = []

    async def deliver(self, kind: Kind, path: str, event: Json, marker: str) -> Json | None:
        """Try as often as the patience allows; return the result of the event."""
        began = time.monotonic()
        for number in range(self._patience.tries):
            self._sent.history.requests += 1
            result = await self._try(path, event)
            if result is not None:
                self._sent.answered.append(time.monotonic())
                self._sent.slowest = max(self._sent.slowest, time.monotonic() - began)
                repeated = result["status"] == "duplicate"
                told = Told(kind, event["user_id"], marker, result, repeated=repeated)
                self._sent.history.told.append(told)
                return result
            if number + 1 < self._patience.tries:
                await asyncio.sleep(self._patience.between)
        self._sent.lost.append(marker)
        return None

    async def close(self) -> None:
        """Close the connections that are kept open."""
        for _, writer in self._free:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _try(self, path: str, event: Json) -> Json | None:
        try:
            async with asyncio.timeout(self._patience.waits):
                return await self._request(path, json.dumps(event).encode())
        except TimeoutError:
            self._sent.timed_out += 1
        except ConnectionRefusedError:
            self._sent.refused.append(time.monotonic())
        except (OSError, EOFError):
            self._sent.broken_off += 1
        return None

    async def _request(self, path: str, body: bytes) -> Json | None:
        keeps = self._patience.keeps_connections
        reader, writer = self._kept_open() or await self._connect()
        try:
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n"
                f"Content-Length: {len(body)}\r\n"
                f"Connection: {'keep-alive' if keeps else 'close'}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = (
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            answer = await reader.readexactly(length)
        except BaseException:
            writer.transport.abort()
            raise
        if keeps and b"connection: close" not in head.lower():
            self._free.append((reader, writer))
        else:
            writer.transport.abort()
        if not head.startswith(b"HTTP/1.1 200"):
            self._sent.history.refused += 1
            return None
        (result,) = json.loads(answer)["results"]
        return dict(result)

    def _kept_open(self) -> _Connection | None:
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.transport.abort()
        return None

    async def _connect(self) -> _Connection:
        return await asyncio.open_connection(HOST, self._port)


class _Senders(threading.Thread):
    """Amplitude tells of people who leave; CleverTap of opens and conversions of some of them."""

    def __init__(self, port: int, seed: int, a_second: float) -> None:
        super().__init__(name="senders")
        self.sent, self.stopping = Sent(), threading.Event()
        self._a_second = a_second
        self._amplitude = _Sender(port, AMPLITUDE, self.sent)
        self._clevertap = _Sender(port, CLEVERTAP, self.sent)
        self._chance = random.Random(seed)
        self._known: list[tuple[str, str]] = []  # users and experiments to tell of

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            began, number = time.monotonic(), 0
            while not self.stopping.is_set():
                number += 1
                await asyncio.sleep(max(0.0, began + number / self._a_second - time.monotonic()))
                if number % 2 or not self._known:
                    tasks.create_task(self._leave(f"event {number}"))
                else:
                    tasks.create_task(self._report(f"report {number}"))
        await self._amplitude.close()

    async def _leave(self, marker: str) -> None:
        event = {
            "event_type": TRIGGER,
            "user_id": f"user of {marker}",
            "device_id": "phone",
            "$insert_id": marker,
            "event_time": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        }
        result = await self._amplitude.deliver("trigger", "/webhook/amplitude", event, marker)
        if result is not None and result["status"] == "scheduled":
            self._known.append((event["user_id"], result["experiment_id"]))

    async def _report(self, marker: str) -> None:
        user, experiment_id = self._known.pop(self._chance.randrange(len(self._known)))
        kind: Kind = self._chance.choice(("opened", "converted"))
        said: Mapping[str, Any] = {
            "user_id": user,
            "experiment_id": experiment_id,
            "marker": marker,
        }
        await self._clevertap.deliver(kind, f"/webhook/{kind}", dict(said), marker)


@contextmanager
def senders(port: int, seed: int, a_second: float = 50.0) -> Iterator[Sent]:
    """Send while the block runs; afterwards everything has been answered, or was given up."""
    both = _Senders(port, seed, a_second)
    both.start()
    try:
        yield both.sent
    finally:
        both.stopping.set()
        both.join()
