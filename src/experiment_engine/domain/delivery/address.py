"""Where a provider reaches a user whom it does not know by our id, and what may stand there."""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from experiment_engine.domain.events import Properties


class AddressKind(StrEnum):
    """What a provider takes as an address."""

    PHONE = "phone"  # E.164: +, country code, number; 8 to 15 digits
    TOKEN = "token"  # noqa: S105 - what a device is registered under at Firebase
    ANY = "any"  # whatever the receiver understands


_BETWEEN_DIGITS = re.compile(r"[ ().-]")
_FORMS = {
    AddressKind.PHONE: re.compile(r"\+[1-9][0-9]{7,14}"),
    AddressKind.TOKEN: re.compile(r"[A-Za-z0-9_:-]{16,4096}"),
    AddressKind.ANY: re.compile(r"[!-~]{1,512}"),
}


@dataclass(frozen=True, slots=True)
class AddressRule:
    """Which property of an event, or of its user, holds the address."""

    path: tuple[str, str]  # ("user_properties", "phone")
    kind: AddressKind

    def read(self, event_properties: Properties, user_properties: Properties) -> str | None:
        """Return the address as the provider takes it; None where there is none to use."""
        folder, key = self.path
        properties = event_properties if folder == "event_properties" else user_properties
        return address_of(self.kind, properties.get(key))


def address_hash(address: str, salt: bytes) -> str:
    """Return what an address is known by after its message has gone: a keyed hash."""
    return blake2b(address.encode(), digest_size=16, key=salt[:64], person=b"address").hexdigest()


def address_of(kind: AddressKind, value: object) -> str | None:
    """Return a value in the one form of its kind, or None.

    A number without its country code is nobody's for certain, so it is none.
    """
    if not isinstance(value, str):
        return None
    text = value.strip()
    if kind is AddressKind.PHONE:
        text = _BETWEEN_DIGITS.sub("", text)
    return text if _FORMS[kind].fullmatch(text) else None
