"""A message's claim is stored before anybody is called: whoever dies in between left a trace."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.engine import running_engine
from tests.support.events import amplitude_event
from tests.support.fakes import an_answer
from tests.support.onlooker import DATABASES, Look, database_url, onlooker

from experiment_engine.domain.delivery.message import Answer, Call

MESSAGES = 50


@dataclass
class WatchfulProvider:
    """Looks, at every call, what the database holds for everybody else."""

    look: Look | None = None
    calls: int = 0
    early: list[str] = field(default_factory=list)

    async def send(self, call: Call) -> Answer:
        assert self.look is not None
        self.calls += 1
        for experiment_id in call.recipients.values():
            query = "SELECT state, call_id FROM experiment WHERE id = ?"
            (found,) = self.look(query, experiment_id)
            if (found["state"], found["call_id"]) != ("claimed", call.id):
                self.early.append(f"{experiment_id} was {found['state']}")
        return an_answer()

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("database", DATABASES)
def test_nothing_is_called_before_its_claim_is_stored(tmp_path: Path, database: str) -> None:
    """At the moment of a call another connection sees the claim, with this call's token."""
    provider = WatchfulProvider()
    with (
        database_url(database, tmp_path) as url,
        running_engine(tmp_path, environ={"DATABASE_URL": url}, sender=provider) as engine,
        onlooker(url) as provider.look,
    ):
        at = engine.clock.iso()
        engine.events(*(amplitude_event(f"user {n}", at) for n in range(MESSAGES)))
        engine.deliver(after="2min")
    assert provider.calls == MESSAGES
    assert not provider.early, f"called before the claim was stored: {provider.early[:3]}"
