"""One sender that hands each channel's calls to the provider of that channel."""

from collections.abc import Mapping

from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.identifiers import Channel


class SenderByChannel:
    """Routes calls; a channel without a sender takes nothing."""

    def __init__(self, senders: Mapping[Channel, MessageSender]) -> None:
        self._senders = senders

    async def send(self, call: Call) -> Answer:
        """Make the call once, at the provider of its channel."""
        sender = self._senders.get(call.content.channel)
        if sender is None:  # its credentials went away since the claim
            return Answer(Verdict.NOT_TAKEN, "not_connected", whole_call=False)
        return await sender.send(call)

    async def close(self) -> None:
        """Close each sender, once."""
        for sender in {id(sender): sender for sender in self._senders.values()}.values():
            await sender.close()
