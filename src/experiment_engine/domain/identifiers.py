"""What things are called: identifiers and labels are types of their own."""

from typing import NewType

UserId = NewType("UserId", str)
ExperimentId = NewType("ExperimentId", str)  # UUIDv7: sorts by the time of the decision
CohortName = NewType("CohortName", str)
Channel = NewType("Channel", str)
ComboKey = NewType("ComboKey", str)
EventName = NewType("EventName", str)
SnapshotId = NewType("SnapshotId", str)
DistributionId = NewType("DistributionId", str)
CallId = NewType("CallId", str)  # one call at the provider; the fencing token of what it carries

EVERY_CHANNEL = Channel("*")  # a choice of the user that holds for all channels

ERASED = "erased:"  # how the ids of users who are forgotten begin


def is_erased_id(user_id: UserId) -> bool:
    """Say whether this stands for somebody who is forgotten."""
    return user_id.startswith(ERASED)
