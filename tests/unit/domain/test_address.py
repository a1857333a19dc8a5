"""Where a provider finds a user: one form a kind, and nothing that is a guess."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.delivery.address import AddressKind, AddressRule, address_of

PHONE, TOKEN, ANY = AddressKind.PHONE, AddressKind.TOKEN, AddressKind.ANY


@pytest.mark.parametrize(
    ("value", "found"),
    [
        *(("+919876543210", "+919876543210"), (" +91 98765-43210 ", "+919876543210")),
        *(("+1 (555) 010.9999", "+15550109999"), ("+12345678", "+12345678")),
        *(("919876543210", None), ("9876543210", None), ("00919876543210", None)),
        *(("+0123456789", None), ("+1234567", None), ("+1234567890123456", None), ("+", None)),
        *(("+91९876543210", None), ("+91987654321a", None), ("+91\n9876543210", None)),
        *((919876543210, None), (None, None), (["+919876543210"], None), ("", None)),
    ],
)
def test_phone(value: object, found: str | None) -> None:
    """A phone number is E.164; without a country code it might be a stranger's."""
    assert address_of(PHONE, value) == found


@given(st.text() | st.integers() | st.none())
def test_any_phone(value: object) -> None:
    """Whatever comes, what is found can be dialled."""
    found = address_of(PHONE, value)
    assert found is None or re.fullmatch(r"\+[1-9][0-9]{7,14}", found, re.ASCII)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        *(("dJ7k-x_Q:APA91bH" + "x" * 140, True), ("short", False), ("x" * 4097, False)),
        *(("x" * 20 + " ", True), ("x" * 10 + " " + "x" * 10, False), ("x" * 20 + "/", False)),
    ],
)
def test_token(value: str, fits: bool) -> None:  # noqa: FBT001 - a table
    """A device's token is one word of letters, digits, and the signs that tokens have."""
    assert (address_of(TOKEN, value) == value.strip()) is fits


def test_anything() -> None:
    """For a receiver of the user's own any word will do."""
    assert address_of(ANY, "asha@example.com") == "asha@example.com"
    assert address_of(ANY, "a b") is None
    assert address_of(ANY, "x" * 513) is None


def test_where_it_stands() -> None:
    """It is read from the property that was declared, and from no other."""
    rule = AddressRule(("user_properties", "phone"), PHONE)
    told = {"phone": "+919876543210"}
    assert rule.read({}, told) == "+919876543210"
    assert rule.read(told, {}) is None
    assert AddressRule(("event_properties", "phone"), PHONE).read(told, {}) == "+919876543210"
