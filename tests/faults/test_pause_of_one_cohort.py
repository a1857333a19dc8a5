"""A pause holds back what it names, and nothing else."""

from pathlib import Path

from tests.support.configuration import cohort, write_configuration
from tests.support.engine import running_engine
from tests.support.events import amplitude_event

WAITING = 300  # messages of the paused cohort: more than the claim looks at beyond its free calls


def test_other_cohorts_go_out_in_time(tmp_path: Path) -> None:
    """However much of a paused cohort waits, the messages of the others go out when due."""
    config = write_configuration(
        tmp_path / "configuration",
        cohorts={name: cohort(trigger={"event": name}) for name in ("paused", "running")},
    )
    with running_engine(tmp_path, config=config) as engine:
        at = engine.clock.iso()
        engine.events(*(amplitude_event(f"{n}", at, "paused") for n in range(WAITING)))
        engine.clock.advance("1s")
        other = engine.scheduled("other", name="running")
        engine.post("/api/pause", {"cohort": "paused"}).raise_for_status()
        engine.deliver("3min")
        assert engine.state(other) == ("sent", None)
