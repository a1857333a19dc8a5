"""The delivery worker: claims what is due, calls the provider, records its answers.

It runs on a thread of its own with its own event loop. Storage is synchronous and blocks only
this loop; the provider's calls are what waits, so they are asynchronous.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from experiment_engine.application.deliver import Claimed
from experiment_engine.application.ports import Clock, MessageSender
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.delivery.retry import Breaker
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.identifiers import CallId, Channel
from experiment_engine.domain.moments import SECOND, Duration, Instant
from experiment_engine.domain.rules import ChannelRules

log = structlog.get_logger()

_IDLE = 0.05  # seconds between looks for what is due
_LAST_CALL = 16.0  # seconds; a call takes 15 at most, and is then recorded
_RENEWALS = 12  # in the time of one lease


class DeliveryEngine(Protocol):
    """What the worker needs of the engine: the use cases, each one transaction."""

    clock: Clock
    lease: Duration

    def claim(
        self, free: Mapping[Channel, int], under_way: Sequence[CallId], *, thorough: bool
    ) -> Claimed:
        """Claim what may go out now; a thorough claim also ends what can never go out."""

    def record(self, answers: list[tuple[Call, Answer]]) -> None:
        """Record what the provider answered."""

    def renew(self, under_way: Sequence[CallId]) -> None:
        """Keep hold of the calls under way."""

    def recover(self) -> None:
        """Settle what dead workers left behind."""


@dataclass
class Lanes:
    """The calls in flight of every channel, and the breaker before each."""

    channels: Mapping[Channel, ChannelRules]
    in_flight: dict[Channel, int] = field(default_factory=dict)
    breakers: dict[Channel, Breaker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with every call free."""
        self.in_flight = dict.fromkeys(self.channels, 0)
        self.breakers = {channel: Breaker() for channel in self.channels}

    def follow(self, channels: Mapping[Channel, ChannelRules]) -> None:
        """Go on with other limits; calls in flight and breakers stay."""
        for channel in channels:
            self.in_flight.setdefault(channel, 0)
            self.breakers.setdefault(channel, Breaker())
        self.channels = channels

    def free(self, now: Instant) -> dict[Channel, int]:
        """Return how many calls of each channel may start now."""
        return {
            channel: self.breakers[channel].allows(
                now, rules.max_in_flight - self.in_flight[channel]
            )
            for channel, rules in self.channels.items()
        }

    def begin(self, call: Call, now: Instant) -> None:
        """Note a call that starts."""
        self.in_flight[call.content.channel] += 1
        self.breakers[call.content.channel].probing(now)

    def end(self, call: Call, answer: Answer, now: Instant) -> None:
        """Note a call's end."""
        self.in_flight[call.content.channel] -= 1
        breaker = self.breakers[call.content.channel]
        if answer.verdict is Verdict.ACCEPTED:
            breaker.accepted()
        elif answer.verdict is Verdict.REFUSED:
            breaker.refused(now)
        else:
            breaker.troubled(now)


class Worker:
    """Runs the delivery loop on a thread until it is stopped."""

    def __init__(
        self,
        engine: DeliveryEngine,
        sender: MessageSender,
        channels: Mapping[Channel, ChannelRules],
    ) -> None:
        """Prepare; nothing is claimed before `start`."""
        self._engine, self._sender = engine, sender
        self.lanes = Lanes(channels)
        self._answers: list[tuple[Call, Answer]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._leases: dict[CallId, float] = {}  # when they end, on a clock that is never set
        self._stopping, self._stop_by = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._main, name="worker", daemon=True)
        self._recovered_at = self._looked_at = Instant(0)
        self._next: tuple[Mapping[Channel, ChannelRules], MessageSender] | None = None
        self._retired: list[tuple[MessageSender, frozenset[asyncio.Task[None]]]] = []

    def follow(self, channels: Mapping[Channel, ChannelRules], sender: MessageSender) -> None:
        """Go on under other rules from the next turn on; calls under way end as they began."""
        self._next = (channels, sender)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Claim nothing more, wait for the calls under way and record them."""
        if not self._stopping.is_set():
            self._stop_by = time.monotonic() + _LAST_CALL
            self._stopping.set()
        self._thread.join(max(0.0, self._stop_by - time.monotonic()))

    @property
    def is_alive(self) -> bool:
        """Say whether the loop runs."""
        return self._thread.is_alive()

    def _main(self) -> None:
        asyncio.run(self._loop())

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self._turn()
            except StorageUnavailable:
                busy = False  # logged where it happened; what waits, waits
            except Exception:
                log.exception("worker_turn_failed")
                busy = False
            await self._close_retired()
            await self._pause(busy=busy)
        await self._finish()

    async def _finish(self) -> None:
        """Wait for the calls under way, and record them even if the database comes back late."""
        while self._calls or self._answers:
            await self._pause(busy=False)
            try:
                self._record()
            except StorageUnavailable:
                continue
        for sender, _ in self._retired:
            await sender.close()
        await self._sender.close()

    def _turn(self) -> bool:
        """Record what came in, claim what may go; return whether there was work."""
        self._turn_over()
        recorded = self._record()
        now = self._engine.clock.now()
        if abs(now - self._recovered_at) >= self._engine.lease // _RENEWALS:
            self._renew()
            self._engine.recover()
            self._recovered_at = now
        thorough = abs(now - self._looked_at) >= SECOND  # whichever way the clock is set
        if thorough:
            self._looked_at = now
        claimed = self._engine.claim(self.lanes.free(now), list(self._leases), thorough=thorough)
        left = self._engine.lease - max(0, self._engine.clock.now() - claimed.at)
        for call in claimed.calls:
            self.lanes.begin(call, now)
            self._leases[call.id] = time.monotonic() + left / SECOND
            task = asyncio.get_running_loop().create_task(self._send(call, self._sender))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        return recorded or bool(claimed.experiments)

    def _turn_over(self) -> None:
        """Take up the rules that were handed over since the last turn."""
        if self._next is None:
            return
        (channels, sender), self._next = self._next, None
        self._retired.append((self._sender, frozenset(self._calls)))
        self._sender = sender
        self.lanes.follow(channels)

    async def _close_retired(self) -> None:
        """Close the senders whose last call has ended."""
        over = [one for one in self._retired if not one[1] & self._calls]
        for one in over:
            self._retired.remove(one)
            await one[0].close()

    def _renew(self) -> None:
        """Extend the leases that have not ended: of others the calls may be settled already."""
        began = time.monotonic()
        held = [call for call, ends in self._leases.items() if began < ends]
        if held:
            self._engine.renew(held)
            self._leases |= dict.fromkeys(held, began + self._engine.lease / SECOND)

    def _record(self) -> bool:
        answers = self._answers
        if not answers:
            return False
        self._engine.record(answers)
        self._answers = self._answers[len(answers) :]
        return True

    async def _pause(self, *, busy: bool) -> None:
        """Wait for an answer, or for the next look; with work under way give way only once."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=_IDLE, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(0 if busy else _IDLE)

    async def _send(self, call: Call, sender: MessageSender) -> None:
        outcomes = await send_halving(sender, call, lambda: self._holds(call))
        self._answers += outcomes
        del self._leases[call.id]
        self.lanes.end(call, outcomes[-1][1], self._engine.clock.now())

    def _holds(self, call: Call) -> bool:
        """Say whether the lease still runs: a worker that was stopped for long must not call."""
        return time.monotonic() < self._leases[call.id]


async def send_halving(
    sender: MessageSender, call: Call, may_begin: Callable[[], bool] = lambda: True
) -> list[tuple[Call, Answer]]:
    """Send a call; halve one that was definitely refused as a whole, down to the culprit (R10).

    Nobody in a refused call was written to, so its halves are sent again without risk.
    """
    if not may_begin():
        return [(call, Answer(Verdict.NOT_TAKEN, "lease_over"))]
    try:
        answer = await sender.send(call)
    except Exception:  # a sender promises not to; whatever it was, the call may have been made
        log.exception("sender_failed", call_id=call.id)
        answer = Answer(Verdict.UNCERTAIN, "engine_error")
    refused = answer.verdict is Verdict.REFUSED and answer.whole_call
    if not refused or len(call.recipients) == 1:
        return [(call, answer)]
    users = list(call.recipients.items())
    middle = len(users) // 2
    outcomes = []
    for half in (users[:middle], users[middle:]):
        outcomes += await send_halving(sender, call.part(dict(half)), may_begin)
    return outcomes
