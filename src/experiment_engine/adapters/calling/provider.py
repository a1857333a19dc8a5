"""What the engine must know of a provider, before it opens a sender: its folder says it here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from experiment_engine.adapters.calling.asking import Told
from experiment_engine.application.ports import Clock, MessageSender
from experiment_engine.domain.delivery.address import AddressKind
from experiment_engine.domain.identifiers import Channel
from experiment_engine.domain.rules import ChannelRules

Reader = Callable[[str], str]  # reads a setting; raises ValueError with what to write


@dataclass(frozen=True, slots=True)
class Opening:
    """What a sender is opened with: its settings, and the channels that it is to serve."""

    settings: Mapping[str, str] = field(repr=False)
    channels: Mapping[Channel, ChannelRules]
    clock: Clock

    @property
    def calls(self) -> int:
        """Return how many calls may be in flight at a time."""
        return max(1, sum(channel.max_in_flight for channel in self.channels.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider: what it is called, what it needs, and how its sender is opened.

    `settings` are the environment's names of what it takes, and how each is read. With all that
    are `required` it is connected, with none it is not, and anything between is a mistake.
    """

    name: str
    open: Callable[[Opening], MessageSender]
    settings: Mapping[str, Reader]
    required: tuple[str, ...]
    channels: frozenset[str] | None = None  # that it serves; None: every one
    address: AddressKind | None = None  # what it finds users by; None: by our id
    needs_address: bool = False
    templates: bool = False  # it sends approved templates only
    batches: bool = False  # one call may be for several users
    ask: Callable[[Mapping[str, str]], Told] | None = None  # whether it knows us; sends nothing


def header_value(value: str) -> str:
    """Read what goes into a header: printable ASCII without blanks."""
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("has a blank or a special character inside: copy it again")
    return value


def origin(value: str) -> str:
    """Read scheme, host and port of a server, without a path."""
    found = value.rstrip("/")
    try:
        parts = urlsplit(found)
        plain = f"{parts.scheme}://{parts.netloc}" == found and "@" not in found
        fits = plain and parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port  # raises if it is no number
    except ValueError:
        fits = False
    if not fits or not found.isprintable() or " " in found:
        raise ValueError(
            "not an origin: write http:// or https:// and a host, without a path, such as"
            " https://in1.api.clevertap.com"
        )
    return found


def switch(value: str) -> str:
    """Read 0 or 1."""
    if value not in {"0", "1"}:
        raise ValueError(f'"{value}" is not known: write one of 0, 1')
    return value
