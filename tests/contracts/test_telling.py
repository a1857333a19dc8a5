"""What analytics is told, on each database: every decision and every sent message, once."""

from collections import Counter
from functools import partial

import pytest
from tests.support.builders import World, a_cohort, a_world, happened, some_rules
from tests.support.fakes import an_answer

from experiment_engine.application.tell import (
    ASSIGNED,
    AT_ONCE,
    SENT,
    Notices,
    gather_notices,
    keep_told,
)
from experiment_engine.domain.delivery.message import Verdict


def step(world: World) -> Notices:
    with world.storage.evidence() as evidence:
        notices = gather_notices(world.mode, evidence, world.now)
    world.storage.run(partial(keep_told, notices))
    return notices


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_everything_once(database: str) -> None:
    """In steps, whatever is decided and sent meanwhile, nothing is left out or told twice."""
    rules = some_rules(a_cohort(delays=("2min", "15min"), angles=("urgency",)), holdout_share=0.2)
    told: Counter[str] = Counter()
    with a_world(rules, database=database) as world:
        step(world)
        for hour in range(3):
            users = [f"u{hour}-{number}" for number in range(AT_ONCE // 2 + 40)]
            world.take(*(happened(user=user) for user in users))
            for span in ("2min", "13min"):
                world.clock.advance(span)
                verdict = Verdict.UNCERTAIN if hour == 1 else Verdict.ACCEPTED
                world.deliver(an_answer(verdict))
                told.update(one.insert_id for one in step(world).events)
        world.clock.advance("1min")
        while (notices := step(world)).steps:
            told.update(one.insert_id for one in notices.events)
        made = world.experiments()
    expected = {f"{ASSIGNED}:{one['id']}" for one in made}
    expected |= {f"{SENT}:{one['id']}" for one in made if one["state"] == "sent"}
    print(f"{database}: {len(made)} experiments, {len(expected)} notices")
    assert told == Counter(dict.fromkeys(expected, 1))
    assert {one["state"] for one in made} == {"sent", "unknown", "held_out"}
