"""Takes every message and calls nobody."""

from experiment_engine.domain.delivery.message import Answer, Call, Verdict


class DryRunSender:
    """Stands in for the provider while no account is set."""

    async def send(self, call: Call) -> Answer:
        """Accept the call without making it."""
        del call
        return Answer(Verdict.ACCEPTED, "dry_run")

    async def close(self) -> None:
        """Have nothing to give back."""
