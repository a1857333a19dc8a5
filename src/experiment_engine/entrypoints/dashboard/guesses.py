"""How often somebody may try to sign in: wrong tokens are counted, by address and in all.

A token bucket each. Behind a proxy every address is the proxy's: whom a header names is believed
by nobody here. Programs' doors are not limited like this (decision 27).
"""

from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from experiment_engine.domain.moments import MINUTE, SECOND, Duration, Instant

_IPV6_HOST_BITS = 64  # one customer has that many addresses


class TooManyGuesses(Exception):
    """Somebody tried too often; nothing is looked at before `seconds` have passed."""

    def __init__(self, wait: Duration) -> None:
        """Keep how long to wait."""
        self.seconds = -(-wait // SECOND)
        super().__init__(f"Too many wrong tokens. Try again in {self.seconds} seconds.")


@dataclass(slots=True)
class _Bucket:
    """Wrong guesses that are left; one comes back after each `every`."""

    size: int
    every: Duration
    left: float
    at: Instant

    def refill(self, now: Instant) -> None:
        self.left = min(self.size, self.left + max(0, now - self.at) / self.every)
        self.at = now

    def wait(self) -> Duration:
        """Return how long it takes until a guess is left."""
        return Duration(max(0, round((1 - self.left) * self.every)))


def _of_one(at: Instant) -> _Bucket:
    return _Bucket(size=5, every=Duration(MINUTE), left=5, at=at)


def _of_all() -> _Bucket:
    return _Bucket(size=20, every=Duration(15 * SECOND), left=20, at=Instant(0))


@dataclass(slots=True)
class Guesses:
    """Counts wrong tokens of this process."""

    _all: _Bucket = field(default_factory=_of_all)
    _by_address: dict[str, _Bucket] = field(default_factory=dict)

    def allow(self, address: str, now: Instant) -> None:
        """Raise TooManyGuesses unless somebody may try now."""
        self._all.refill(now)
        mine = self._by_address.get(_network(address), _of_one(now))
        mine.refill(now)
        wait = max(self._all.wait(), mine.wait())
        if wait:
            raise TooManyGuesses(wait)

    def wrong(self, address: str, now: Instant) -> None:
        """Count a wrong token; who has all guesses left is forgotten."""
        for bucket in self._by_address.values():
            bucket.refill(now)
        self._by_address = {a: b for a, b in self._by_address.items() if b.left < b.size}
        self._by_address.setdefault(_network(address), _of_one(now)).left -= 1
        self._all.left -= 1


def _network(address: str) -> str:
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return str(int(known) >> _IPV6_HOST_BITS)
    return str(known)
