"""The demo's provider: takes every message and shows it on a phone of the city at once."""

from experiment_engine.application.ports import Clock
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.entrypoints.simulator.city import City

ACCEPTED = Answer(Verdict.ACCEPTED, "simulated", answer="a phone of the demo shows it")


class SimulatedProvider:
    """Stands where CleverTap's sender stands; nothing leaves the process."""

    def __init__(self, city: City, clock: Clock) -> None:
        """Send into the city."""
        self._city, self._clock = city, clock

    async def send(self, call: Call) -> Answer:
        """Take the call."""
        return self.take(call)

    def take(self, call: Call) -> Answer:
        """Take the call, for those who wait for nothing."""
        for experiment_id in call.recipients.values():
            self._city.receive(experiment_id, self._clock.now())
        return ACCEPTED

    async def close(self) -> None:
        """Have nothing to give back."""
