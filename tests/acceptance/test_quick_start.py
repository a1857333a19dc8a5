"""The README's walk: a trigger, its message, its outcome, and the next choice."""

from collections.abc import Iterator

import pytest
from tests.support.clevertap_double import PUSH, CleverTapDouble
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import somebody
from tests.support.start import Start

from experiment_engine.configuration.loading import bundled_example

TWO_ANGLES = {COHORT: cohort(angle=["helpful", "urgency"])}


def test_the_loop_runs(start: Start, double: CleverTapDouble) -> None:
    """An event leads to one message; its open and conversion change statistics and choices."""
    engine = start(to=double, cohorts=TWO_ANGLES)
    experiment_id = engine.scheduled("usr_123")
    drawn = engine.experiment(experiment_id)
    assert drawn["decision"]["eligible"] == pytest.approx(
        {"2min|push|helpful|none": 0.5, "2min|push|urgency|none": 0.5}
    )

    engine.deliver(after="2min")
    (call,) = double.ledger()
    assert (call.path, call.users, call.experiment_ids) == (PUSH, ("usr_123",), (experiment_id,))

    assert engine.opened(experiment_id=experiment_id)["status"] == "recorded"
    assert engine.converted(user_id="usr_123")["status"] == "recorded"
    stats = engine.get("/api/stats")
    assert stats["summary"]["total_experiments"] == 1
    assert stats["summary"]["total_opened"] == 1
    assert stats["summary"]["total_converted"] == 1
    assert stats["summary"]["overall_cvr"] == "100.00%"
    assert stats["top_combinations"][0]["combo_key"] == drawn["combo_key"]

    engine.learn()
    following = engine.experiment(engine.scheduled(somebody()))
    assert following["decision"]["eligible"][drawn["combo_key"]] == pytest.approx(0.9)
    assert following["decision"]["policy_state"] != drawn["decision"]["policy_state"]


def test_the_loop_runs_dry(start: Start) -> None:
    """Without a CleverTap account the same walk is rendered and logged, and nobody is called."""
    engine = start()
    experiment_id = engine.scheduled("usr_123")
    engine.deliver(after="2min")

    assert engine.state(experiment_id) == ("sent", None)
    assert engine.get("/health")["mode"] == "dry_run"
    (sent,) = [line for line in engine.log.getvalue().splitlines() if line.startswith("[SENT]")]
    assert "dry_run=true" in sent


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine on the configuration that comes with it."""
    folder = tmp_path_factory.mktemp("bundled")
    with running_engine(folder, config=bundled_example()) as engine:
        yield engine


@pytest.mark.parametrize("name", ["checkout_abandoners", "payment_failed", "paywall_bouncers"])
def test_the_bundled_example_serves(bundled: RunningEngine, name: str) -> None:
    """The quick start's curl gets a schedule from the configuration that comes with the engine."""
    answer = bundled.trigger(somebody(), name)
    assert answer.status_code == 201
    assert answer.json()["message"]["body"]


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("Bhojpuri", "bho"),
        ("bho", "bho"),
        ("Hindi", "hi"),
        ("hi-IN", "hi"),
        ("Haryanvi", "bgc"),
        ("rajasthani", "raj"),
        ("English", "en"),
        ("Klingon", "en"),
        ("", "en"),
        (None, "en"),
        (7, "en"),
    ],
)
def test_the_bundled_example_speaks(bundled: RunningEngine, said: object, language: str) -> None:
    """The user's language, by its name or code, chooses the words."""
    answer = bundled.trigger(somebody(), attributes={"language": said})
    assert answer.json()["message"]["language"] == language
