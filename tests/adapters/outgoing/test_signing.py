"""Our signatures, with the reference implementation of Standard Webhooks as the judge."""

import base64
import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from experiment_engine.adapters.outgoing.signing import SigningKey
from experiment_engine.domain.moments import SECOND, Instant


def now() -> Instant:
    """Return the machine's own time: the reference compares with it."""
    return Instant(int(datetime.now(UTC).timestamp()) * SECOND)  # noqa: TID251 - see above


def written(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


@given(
    st.binary(min_size=24, max_size=64),
    st.from_regex(r"[0-9a-f-]{1,36}", fullmatch=True),
    st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
)
def test_the_reference_accepts_what_we_sign(key: bytes, message_id: str, said: object) -> None:
    """Whatever the key, id and body: the signature is the one that the standard asks for."""
    body = json.dumps(said).encode()
    headers = SigningKey.of(written(key)).headers(message_id, now(), body)

    assert Webhook(written(key)).verify(body, cast("Any", headers)) == json.loads(body)


@pytest.mark.parametrize("change", ["body", "id", "timestamp", "key", "signature"])
def test_the_reference_refuses_what_was_changed(change: str) -> None:
    """A change of any signed part is noticed."""
    body, key = b'{"a":1}', written(b"k" * 32)
    headers = SigningKey.of(key).headers("m1", now(), body)
    if change == "id":
        headers["webhook-id"] = "m2"
    elif change == "timestamp":
        headers["webhook-timestamp"] = str(now() // SECOND + 1)
    elif change == "signature":
        headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v1,A")
    elif change == "key":
        key = written(b"l" * 32)
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(body + b" " * (change == "body"), cast("Any", headers))


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "secret", written(b"k" * 23), written(b"k" * 65), "whsec_ü", "whsec_a b=="],
)
def test_a_secret_that_is_none(secret: str) -> None:
    """A short or malformed secret is refused, and not repeated."""
    with pytest.raises(ValueError, match="openssl rand") as refused:
        SigningKey.of(secret)
    assert len(secret) < 10 or secret not in str(refused.value)


def test_the_key_does_not_show() -> None:
    """Printing the key tells nothing."""
    assert "kkkk" not in repr(SigningKey.of(written(b"k" * 32)))
