"""One whole walk, step by step, by a client that tries each step until it is answered.

Two users leave the checkout; one comes back before the message, the other gets it, opens it and
comes back. A walk that was broken off goes on where it was, as a sender does that tries again.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.ledgers import Row, Stored, judge, waiting
from tests.support.builders import empty_database
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.crash import GOAL, HOST, TRIGGER, History, Json, Kind, Told
from tests.support.nursery import ONE_THREAD, Child, Nursery, a_nursery
from tests.support.server import free_port
from tests.support.start import live

Alive = Callable[[], bool]

_PATIENCE = 30.0  # seconds; only a failing test waits that long


class Died(Exception):
    """The engine died while a step was under way."""


@dataclass
class Walk:
    """How far one walk is, and what its client was told."""

    number: int
    port: int
    database: Path
    history: History = field(default_factory=History)
    answers: list[tuple[float, int]] = field(default_factory=list)  # when, and with what status
    _done: int = 0

    @property
    def users(self) -> tuple[str, str]:
        """Return who gets the message, and who comes back before it."""
        return f"reader {self.number}", f"returner {self.number}"

    def go(self, alive: Alive) -> None:
        """Take the steps that are left; raises Died."""
        steps = (self._leave, self._return_early, self._wait, self._open, self._return)
        for step in steps[self._done :]:
            step(alive)
            self._done += 1

    def _leave(self, alive: Alive) -> None:
        events = [self._event(TRIGGER, user) for user in self.users]
        results = self._post("/webhook/amplitude", events, alive)
        for user, event, result in zip(self.users, events, results, strict=True):
            self._tell("trigger", user, event["$insert_id"], result)

    def _return_early(self, alive: Alive) -> None:
        event = self._event(GOAL, self.users[1])
        (result,) = self._post("/webhook/amplitude", event, alive)
        self._tell("goal", self.users[1], event["$insert_id"], result)

    def _wait(self, alive: Alive) -> None:
        deadline = time.monotonic() + _PATIENCE
        while waiting(self.database):
            if not alive():
                raise Died
            assert time.monotonic() < deadline, "a message is stuck"
            time.sleep(0.005)

    def _open(self, alive: Alive) -> None:
        self._report("opened", alive)

    def _return(self, alive: Alive) -> None:
        self._report("converted", alive)

    def _report(self, kind: Kind, alive: Alive) -> None:
        user, marker = self.users[0], f"{kind} of walk {self.number}"
        said = {"user_id": user, "experiment_id": self._message_of(user), "marker": marker}
        (result,) = self._post(f"/webhook/{kind}", said, alive)
        self._tell(kind, user, marker, result)

    def _message_of(self, user: str) -> str:
        """Return what the message carried, also where a broken answer kept it from the client."""
        stored = Stored.read(self.database)
        return str(_experiment(stored, user)["id"])

    def _event(self, name: str, user: str) -> Json:
        return {
            "event_type": name,
            "user_id": user,
            "device_id": "phone",
            "$insert_id": f"{name} of {user}",
            "event_time": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        }

    def _tell(self, kind: Kind, user: str, marker: str, result: Json) -> None:
        self.history.told.append(Told(kind, user, marker, result))

    def _post(self, path: str, body: object, alive: Alive) -> list[Json]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            results = self._try(path, body)
            if results is not None:
                return results
            if not alive():
                raise Died
            assert time.monotonic() < deadline, f"no answer to {path}: {self.answers}"
            time.sleep(0.005)

    def _try(self, path: str, body: object) -> list[Json] | None:
        try:
            with closing(http.client.HTTPConnection(HOST, self.port, timeout=5)) as connection:
                connection.request("POST", path, json.dumps(body))
                response = connection.getresponse()
                answer = response.read()
        except (OSError, http.client.HTTPException):
            return None
        self.answers.append((time.time(), response.status))
        if response.status != 200:
            return None
        results: list[Json] = json.loads(answer)["results"]
        return results


@dataclass
class Stage:
    """Where walks take place: one provider, and one nursery of engines on one thread."""

    folder: Path
    port: int
    double: CleverTapDoubleProcess
    nursery: Nursery
    walks: int = 0
    answered: int = 0

    def begin(self) -> Walk:
        """Return the next walk, on a new database."""
        self.walks += 1
        for old in self.folder.glob("engine.db*"):
            old.unlink()
        return Walk(self.walks, self.port, empty_database(self.folder))

    def engine(self, **environ: str) -> Child:
        """Return an engine that waits for `go`."""
        return self.nursery.fork(ONE_THREAD, **environ)

    def judge(self, walk: Walk) -> None:
        """Compare the ledgers of a walk that has come to its end; nothing runs any more."""
        stored = Stored.read(walk.database)
        ledger = [call for call in self.double.ledger() if set(call.users) & set(walk.users)]
        for promise, broken in judge(walk.history, ledger, stored):
            assert not broken, f"{promise}: {broken}"
        reader, returner = (_experiment(stored, user) for user in walk.users)
        assert reader["state"] in ("sent", "unknown"), dict(reader)
        assert None not in (reader["opened_at"], reader["converted_at"]), dict(reader)
        # On a slow machine the message may go out first; an unknown one earns nothing (R6).
        assert returner["converted_at"] or returner["state"] == "unknown", dict(returner)
        self.answered += len(walk.history.told)


def _experiment(stored: Stored, user: str) -> Row:
    (one,) = (row for row in stored.experiments.values() if row["user_id"] == user)
    return one


@contextmanager
def a_stage(folder: Path, **channel: object) -> Iterator[Stage]:
    """Prepare everything that walks need."""
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.3s"])},
        channels={"push": {"max_in_flight": 3, **channel}},
    )
    port = free_port()
    with CleverTapDoubleProcess(folder / "ledger", fsync=False) as double:
        environ: Mapping[str, str] = {
            "PORT": str(port),
            "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
            "ENGINE_CONFIG": str(config),
            **live(double),
        }
        with a_nursery(folder, environ) as nursery:
            yield Stage(folder, port, double, nursery)
