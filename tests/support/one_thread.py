"""The engine on one thread, so that its system calls come in one order, and named points in it.

Everything is what `serve` runs, but the lane of the webhooks: a request is taken in where it
arrives. KILL_AT names the point at which the process kills itself, and which time it is there:
`take.before_commit:2`.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import uvicorn

from experiment_engine.adapters.storage.sqlite import SqliteStorage, SqliteTransaction
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.adapters.system.logs import configure_logs
from experiment_engine.application.deliver import Claimed
from experiment_engine.application.ports import MessageSender
from experiment_engine.application.take_in import Taken
from experiment_engine.bootstrap import open_sender, read_rules
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.events import Fact
from experiment_engine.engine.engine import Engine
from experiment_engine.engine.ground import Ground
from experiment_engine.entrypoints.cli.listening import listen
from experiment_engine.entrypoints.http.app import webhooks
from experiment_engine.entrypoints.http.bodies import Receive, Send, answer
from experiment_engine.entrypoints.http.door import Door
from experiment_engine.entrypoints.worker import Worker
from experiment_engine.settings import read_settings

T = TypeVar("T")

POINTS = (  # in the order of the walk
    *("learn.before_commit:1", "learn.after_commit:1"),
    *("take.before_commit:1", "take.after_commit_before_ack:1", "take.after_ack:1"),
    *("take.before_commit:2", "take.after_commit_before_ack:2", "take.after_ack:2"),
    *("claim.before_commit:1", "claim.after_commit_before_http:1", "send.before_http:1"),
    *("send.after_http_before_record:1", "record.before_commit:1", "record.after_commit:1"),
    *("take.before_commit:3", "take.after_commit_before_ack:3", "take.after_ack:3"),
    *("take.before_commit:4", "take.after_commit_before_ack:4"),
)
AFTER_A_KILL = ("recover.before_commit:1", "recover.after_commit:1")  # when a claim is found


@dataclass
class Points:
    """Where the process kills itself."""

    name: str
    passes: int

    @classmethod
    def read(cls, text: str) -> "Points":
        """Read `name:times`; nothing is never passed."""
        name, _, times = text.partition(":")
        return cls(name, int(times or 0))

    def at(self, name: str) -> None:
        """Pass a point, or die there."""
        if name == self.name:
            self.passes -= 1
            if self.passes == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class PointedStorage(SqliteStorage):
    """A database whose transactions have points before and after their commit."""

    points: Points
    doing = ""

    def run(self, work: Callable[[SqliteTransaction], T]) -> T:
        """Do some work in a transaction of its own."""
        with self.transaction() as tx:
            result = work(tx)
            idle = self.doing in ("claim", "recover") and not _moves(result)
            if not idle:
                self.points.at(f"{self.doing}.before_commit")
        if not idle and self.doing not in ("take", "claim"):
            self.points.at(f"{self.doing}.after_commit")
        return result


def _moves(result: object) -> bool:
    return bool(result.calls if isinstance(result, Claimed) else result)


@dataclass
class PointedSender:
    """A sender with a point on both sides of the call."""

    sender: MessageSender
    points: Points

    async def send(self, call: Call) -> Answer:
        """Make the call."""
        self.points.at("send.before_http")
        told = await self.sender.send(call)
        self.points.at("send.after_http_before_record")
        return told

    async def close(self) -> None:
        """Let go of connections."""
        await self.sender.close()


@dataclass
class OneThread:
    """The use cases of the engine, called by one thread; each names what it does."""

    engine: Engine
    storage: PointedStorage
    is_full: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Take over what the worker reads."""
        self.clock, self.lease = self.engine.clock, self.engine.traffic.lease

    async def submit(self, facts: Sequence[Fact]) -> Taken:
        """Take facts in, as the lane of the webhooks does."""
        self.storage.doing = "take"
        taken = self.engine.traffic.take(facts)
        self.storage.points.at("take.after_commit_before_ack")
        return taken

    def claim(self, *given: Any, thorough: bool) -> Claimed:
        """Claim what may go out now."""
        self.storage.doing = "claim"
        claimed = self.engine.traffic.claim(*given, thorough=thorough)
        if claimed.calls:
            self.storage.points.at("claim.after_commit_before_http")
        return claimed

    def record(self, answers: list[tuple[Call, Answer]]) -> None:
        """Record what the provider answered."""
        self.storage.doing = "record"
        self.engine.traffic.record(answers)

    def renew(self, *given: Any) -> None:
        """Keep hold of the calls under way."""
        self.storage.doing = "renew"
        self.engine.traffic.renew(*given)

    def recover(self) -> None:
        """Settle what dead workers left behind."""
        self.storage.doing = "recover"
        self.engine.traffic.recover()

    def learn(self) -> None:
        """Refresh the policies' snapshots."""
        self.storage.doing = "learn"
        self.engine.duties.learn()


def main() -> NoReturn:
    """Serve and deliver until killed."""
    asyncio.run(_serve())
    raise SystemExit(1)


async def _serve() -> None:
    settings = read_settings(os.environ)
    listener, rules = listen(settings), read_rules(settings)
    points = Points.read(os.environ.get("KILL_AT", ""))
    storage = PointedStorage(settings.database_path)
    storage.points = points
    journal = configure_logs("json")
    ground = Ground(Mode.LIVE, storage, journal, SystemClock(), SystemChance())
    engine = Engine(rules, ground)
    parts = OneThread(engine, storage)
    storage.doing = "recover"
    engine.traffic.recover(all_claims=True)
    parts.learn()
    sender = PointedSender(open_sender(settings, rules), points)
    worker = Worker(parts, sender, rules.channels)
    doors = webhooks(settings, engine.clock)
    server = _server(_with_acks(Door(doors, parts, _up), points))
    await server.startup(sockets=[listener])
    while True:
        try:
            busy = worker._turn()
            parts.learn()
        except StorageUnavailable:
            busy = False
        await worker._pause(busy=busy)


def _server(app: Any) -> uvicorn.Server:
    configuration = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", log_config=None
    )
    configuration.load()
    server = uvicorn.Server(configuration)
    server.lifespan = configuration.lifespan_class(configuration)
    return server


def _with_acks(door: Door, points: Points) -> Any:
    """Put a point behind the answer of each request."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await door(scope, receive, send)
        if scope["path"].startswith("/webhook/"):
            points.at("take.after_ack")

    return app


async def _up(_scope: Any, _receive: Receive, send: Send) -> None:
    await answer(send, 200, b"{}")
