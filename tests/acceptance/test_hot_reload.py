"""Cohorts and copy are followed while the engine runs; a mistake changes nothing and is said."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.engine import running_engine
from tests.support.events import amplitude_event, somebody
from tests.support.failing_storage import fail_once
from tests.support.postgres import a_database
from tests.support.recorder import Recorder, recording_provider
from tests.support.server import ServerProcess, eventually, server_process
from tests.support.start import Start

from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.identifiers import Channel
from experiment_engine.entrypoints.watching import AGREES_WITHIN, ConfigurationWatch

_PATIENCE = 60.0


def words(title: str, *angles: str) -> dict[str, Any]:
    text = {"*": {"title": title, "body": "Come back."}}
    return {"push": dict.fromkeys(angles, text)}


def write(folder: Path, title: str, *angles: str, **engine: Any) -> Path:
    cohorts = {COHORT: cohort(angle=list(angles), delay=["6h"], goal={"window": "3d"})}
    return write_configuration(folder, cohorts=cohorts, copy=words(title, *angles), **engine)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "configuration", "Old", "one", "two")


@pytest.fixture
def server(tmp_path: Path, config: Path) -> Iterator[ServerProcess]:
    with server_process(tmp_path, {"ENGINE_CONFIG": str(config)}) as running:
        yield running


def fingerprint(server: ServerProcess) -> str:
    return str(server.client.get("/health").json()["configuration"])


def trigger(server: ServerProcess, user: str) -> dict[str, Any]:
    body = {"user_id": user, "cohort": COHORT}
    answer: dict[str, Any] = server.client.post("/api/trigger", json=body).json()
    return answer


def changed(server: ServerProcess, before: str) -> None:
    eventually(lambda: fingerprint(server) != before, _PATIENCE)


def test_new_words_and_combos_are_followed(server: ServerProcess, config: Path) -> None:
    """The next decision knows the new folder, and what lost its combo waits no more."""
    before = fingerprint(server)
    old = [trigger(server, f"usr_{number}") for number in range(8)]
    lost = [one for one in old if "|two|" in one["combo_key"]]
    kept = [one for one in old if "|one|" in one["combo_key"]]
    write(config, "New", "one", "three")
    changed(server, before)

    new = [trigger(server, f"new_{number}") for number in range(8)]
    assert {one["message"]["title"] for one in new} == {"New"}
    assert {one["combo_key"].split("|")[2] for one in new} <= {"one", "three"}

    def now(one: dict[str, Any]) -> tuple[str, str | None, str]:
        found = server.client.get(f"/api/experiments/{one['experiment_id']}").json()
        return found["status"], found["reason"], found["message"]["title"]

    assert lost, "chance gave one angle alone"
    assert kept, "chance gave one angle alone"
    eventually(lambda: {now(one)[0] for one in lost} == {"cancelled"}, _PATIENCE)
    assert {now(one) for one in lost} == {("cancelled", "combo_removed", "Old")}
    assert {now(one) for one in kept} == {("scheduled", None, "Old")}
    assert "configuration changed" in server.output + server.errors
    assert server.client.get("/ready").json()["checks"]["configuration"] == "ok"
    assert fingerprint(server)[:12] in server.output + server.errors


def test_a_mistake_keeps_the_old_state(server: ServerProcess, config: Path) -> None:
    """A bad file changes nothing, log, /ready and dashboard say so, and its mend is taken in."""
    before = fingerprint(server)
    engine = config / "engine.toml"
    good = engine.read_text()
    engine.write_text(good.replace("share = 0.0", "share = 5"))

    def state() -> str:
        answer = server.client.get("/ready")
        assert answer.status_code == 200
        return str(answer.json()["checks"]["configuration"])

    eventually(lambda: state() != "ok", _PATIENCE)
    assert state().startswith("a mistake in engine.toml: holdout.share: the engine goes on with")
    assert "5 does not fit" not in state()  # what stands in a file is for who signs in
    assert fingerprint(server) == before
    assert trigger(server, "usr_1")["message"]["title"] == "Old"
    assert "holdout.share: 5 does not fit" in server.output + server.errors
    page = server.client.get("/", headers={"Accept": "text/html"}).text
    assert "The configuration has a mistake" in page
    assert "holdout.share: 5 does not fit" in page
    engine.write_text(good)
    eventually(lambda: state() == "ok", _PATIENCE)
    assert fingerprint(server) == before


def test_hang_up_is_no_end(server: ServerProcess, config: Path) -> None:
    """SIGHUP takes the folder in at once, and the server goes on."""
    before = fingerprint(server)
    write(config, "New", "one", "two")
    server.process.send_signal(signal.SIGHUP)
    changed(server, before)
    server.process.send_signal(signal.SIGHUP)
    assert trigger(server, "usr_1")["message"]["title"] == "New"
    assert server.stop() == 0


def test_a_batch_knows_one_configuration(start: Start) -> None:
    """Under constant triggers every decision has combo and words of one and the same folder."""
    folder = start.folder / "configuration"
    engine = start(cohorts={COHORT: cohort(angle=["a0"])}, copy=words("t0", "a0"))
    watch = ConfigurationWatch(engine.engine, folder, "serve")
    stop, failures = threading.Event(), []
    decided: list[str] = []

    def send() -> None:
        while not stop.is_set():
            batch = [amplitude_event(somebody(), engine.clock.iso()) for _ in range(20)]
            for result in engine.events(*batch):
                if result["status"] == "scheduled":
                    decided.append(result["experiment_id"])
                else:
                    failures.append(result)

    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    try:
        eventually(lambda: len(decided) > 0)  # under the first one
        for number in range(1, 9):
            write_configuration(
                folder,
                cohorts={COHORT: cohort(angle=[f"a{number}"])},
                copy=words(f"t{number}", f"a{number}"),
            )
            seen = len(decided)
            watch.hurry()
            watch.step()
            eventually(lambda seen=seen: len(decided) > seen + 40)  # type: ignore[misc]
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert failures == []
    found = [engine.engine.report.reading.experiment(one) for one in decided]  # type: ignore[arg-type]
    pairs = {(one.combo_key.split("|")[2][1:], one.title[1:]) for one in found if one is not None}
    assert pairs == {(str(number), str(number)) for number in range(9)}
    print(f"{len(decided)} decisions over 9 configurations")


@pytest.mark.parametrize("writes", range(6))
def test_a_change_is_taken_in_as_a_whole(start: Start, writes: int) -> None:
    """Whichever of its writes fails, the next look does all of it, and the audit has it once."""
    engine = start(cohorts={COHORT: cohort(angle=["old"])})
    waiting = engine.scheduled("usr_1")
    before = engine.engine.rules.fingerprint
    folder = start.folder / "configuration"
    watch = ConfigurationWatch(engine.engine, folder, "serve")
    write_configuration(folder, cohorts={COHORT: cohort(angle=["new"])})
    failing = fail_once(engine.engine, writes)
    watch.hurry()
    with suppress(StorageUnavailable):
        watch.step()
    watch.step()

    assert failing.failed
    assert engine.engine.rules.fingerprint != before
    assert engine.state(waiting) == ("cancelled", "combo_removed")
    noted = [entry.what for entry in engine.engine.pages.reading.audit(5)]
    assert noted == ["changed the configuration"]


def test_learning_goes_on(start: Start) -> None:
    """What is known about an unchanged combo is known under the new folder too."""
    engine = start(cohorts={COHORT: cohort(angle=["one", "two"])})
    combo = engine.experiment(engine.sent("usr_1"))["combo_key"]
    engine.event("usr_1", "trial_activated")
    assert engine.chances()[combo] > 0.85
    folder = start.folder / "configuration"
    watch = ConfigurationWatch(engine.engine, folder, "serve")
    write_configuration(folder, cohorts={COHORT: cohort(angle=["new", combo.split("|")[2]])})
    watch.hurry()
    watch.step()
    assert engine.chances()[combo] == pytest.approx(0.9)
    assert engine.get("/api/stats")["top_combinations"][0]["combo_key"] == combo


def test_a_folder_that_is_being_written_is_left_alone(start: Start) -> None:
    """What changes between two looks is taken in when it is at rest."""
    engine = start()
    folder = start.folder / "configuration"
    watch = ConfigurationWatch(engine.engine, folder, "serve")
    before = engine.engine.rules.fingerprint
    write_configuration(folder, holdout={"share": 0.5})
    watch.step()
    assert engine.engine.rules.fingerprint == before
    write_configuration(folder, holdout={"share": 0.25})
    watch.step()
    assert engine.engine.rules.fingerprint == before
    watch.step()
    assert engine.engine.rules.holdout_share == 0.25
    (entry, *_) = engine.engine.pages.reading.audit(5)
    assert (entry.what, entry.target) == ("changed the configuration", "configuration")


def test_the_worker_follows(start: Start) -> None:
    """What holds for calls, such as the link and how many run at once, is the new folder's."""
    with recording_provider() as provider:
        link = _link_after_a_change(start, provider)
    assert link == "app://new"


def _link_after_a_change(start: Start, provider: Recorder) -> str:
    engine = start(to=provider, channels={"push": {"deep_link": "app://old"}})
    worker = engine._worker
    watch = ConfigurationWatch(
        engine.engine,
        start.folder / "configuration",
        "serve",
        lambda rules: worker.follow(rules.channels, worker._sender),
    )
    engine.scheduled("usr_1")
    link = {"push": {"deep_link": "app://new", "max_in_flight": 7}}
    write_configuration(start.folder / "configuration", channels=link)
    watch.hurry()
    watch.step()
    engine.deliver(after="2min")
    assert worker.lanes.channels[Channel("push")].max_in_flight == 7
    (request,) = provider.received
    return str(request.body["content"]["platform_specific"]["android"]["deep_link"])


def test_a_mixture_is_not_ready(tmp_path: Path) -> None:
    """Two processes with two folders on one database are unready after a minute, and say why."""
    with ExitStack() as lasting:
        environ = {"DATABASE_URL": lasting.enter_context(a_database())}
        first, second = (
            lasting.enter_context(
                running_engine(
                    tmp_path,
                    config=write_configuration(tmp_path / name, holdout={"share": share}),
                    environ=environ,
                )
            )
            for name, share in (("first", 0.0), ("second", 0.5))
        )
        time = [0.0]
        watch = ConfigurationWatch(
            first.engine, tmp_path / "first", "serve", clock=lambda: time[0]
        )
        object.__setattr__(first.running, "watch", watch)
        first.engine.duties.beat("serve")
        watch.compare()
        assert first.client.get("/ready").status_code == 200
        second.engine.duties.beat("serve")
        watch.compare()
        time[0] += AGREES_WITHIN
        watch.compare()
        assert first.client.get("/ready").status_code == 200  # they have a minute to follow
        time[0] += 1
        answer = first.client.get("/ready")
        assert answer.status_code == 503
        said = answer.json()["checks"]["configuration"]
        assert f"1 with {second.engine.rules.fingerprint[:12]}" in said
        write_configuration(tmp_path / "first", holdout={"share": 0.5})
        watch.hurry()
        watch.step()
        watch.compare()
        assert first.client.get("/ready").status_code == 200
