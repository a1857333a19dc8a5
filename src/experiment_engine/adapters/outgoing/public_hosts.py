"""Which machines may be called: those of the public internet, and nothing behind our own doors.

A name is looked up, all that it stands for is judged, and the call goes to the very address that
was judged: an answer of the name server that changes in between changes nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

_UNICAST = IPv6Network("2000::/3")  # what is given out; beside it lie site-local and reserved ones
# The last four bytes are an IPv4 address: behind NAT64, and in the old "compatible" form.
_ENDS_IN_IPV4 = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))


class NotPublic(Exception):
    """The host is, or could be, a machine that must not be called."""


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host as the operating system finds them; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def checked_address(
    host: str, port: int, *, loopback: bool = False, lookup: Lookup = look_up
) -> str:
    """Return the address to call; raises NotPublic if any that the host has may not be called.

    With `loopback` this machine itself may be called too.
    """
    found = await lookup(host, port)
    for address in found:
        if not may_be_called(address, loopback=loopback):
            raise NotPublic(f"{host} is {address}, which is not on the public internet")
    if not found:
        raise NotPublic(f"{host} has no address")
    return found[0]


def may_be_called(address: str, *, loopback: bool = False) -> bool:
    """Say whether an address is public, or, if that is allowed, this machine's own."""
    try:
        found = ip_address(address)
    except ValueError:  # no address at all
        return False
    if loopback and found.is_loopback:
        return True
    inside = _inside(found) if isinstance(found, IPv6Address) else []
    if isinstance(found, IPv6Address) and not inside and found not in _UNICAST:
        return False
    return all(one.is_global and not one.is_multicast for one in (found, *inside))


def is_loopback(address: str) -> bool:
    """Say whether an address is this machine's own."""
    return may_be_called(address, loopback=True) and not may_be_called(address)


def _inside(address: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    inside = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _ENDS_IN_IPV4):
        inside.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in inside if one is not None]
