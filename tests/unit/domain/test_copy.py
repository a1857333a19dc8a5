"""The texts: which one a user gets, and what of a user's data may stand in it (CONTRACT R16)."""

import unicodedata
from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.builders import CHECKOUT, PAYMENT, PUSH, WHATSAPP, a_text

from experiment_engine.domain.delivery.copy import (
    Catalogue,
    Placeholder,
    Template,
    Text,
    clean,
    placeholder_values,
)
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.rules import Languages

SHOW = Placeholder("show_name", ("event_properties", "show_name"), default="your show")
PLAN = Placeholder("plan_name", ("user_properties", "plan"))  # nothing stands in for it
PLACEHOLDERS = (SHOW, PLAN)
# What turns the direction of text, by Unicode's own property Bidi_Control.
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BREAKS = "\n\r\t\v\f\x00\x1b\x7f\x85\u2028\u2029"

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates too
LIQUID = ["{{ user.email }}", "{% if 1 %}", "{show_name}", "{", "}"]
ODD = ["<b>", "%s", "${x}", "\ud800", "नमस्ते", " ", "€", "\U0001f469\u200d\U0001f467", "A" * 150]
HOSTILE = st.lists(st.sampled_from([*LIQUID, *ODD, *BIDI_CONTROLS, *BREAKS]), max_size=12).map(
    "".join
)
ANY_VALUE = st.one_of(
    ANY_TEXT,
    HOSTILE,
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
PROPERTIES = st.dictionaries(st.sampled_from(["show_name", "plan", "other"]), ANY_VALUE)


def catalogue(*texts: Text) -> Catalogue:
    return Catalogue(
        {(text.language, "*", PUSH, "urgency", "*"): text for text in texts},
        {placeholder.name: placeholder for placeholder in PLACEHOLDERS},
    )


def is_fit(text: str) -> bool:
    """Say whether a text holds nothing that a message must not hold."""
    return not any(c in "{}" or c in BIDI_CONTROLS or c in BREAKS for c in text) and not any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text
    )


@given(event=PROPERTIES, user=PROPERTIES)
def test_rendering_never_raises_and_never_leaves_a_brace(
    event: Mapping[str, object], user: Mapping[str, object]
) -> None:
    """Whatever a user's data hold, the text is either not eligible or fit to be sent, unbroken."""
    text = a_text("Finish {show_name} on {plan_name}!", title="{show_name}")
    texts = catalogue(text)

    values = placeholder_values(PLACEHOLDERS, event, user)

    if texts.missing(text, values):
        assert "plan_name" not in values
        return
    title, body = texts.render(text, values)
    assert is_fit(title)
    assert is_fit(body)
    assert title.strip()
    assert body.startswith("Finish ")
    assert body.endswith("!")


@given(value=ANY_VALUE)
@example(value=10**400)
@example(value=float("nan"))
@example(value="\u200b\u200d\ufeff")
@example(value="\u061c")
def test_any_value_is_made_fit_or_left_out(value: object) -> None:
    """A value never raises, has no control characters, and is never blank or beyond its length."""
    text = clean(value)

    if text is not None:
        assert is_fit(text)
        assert 1 <= len(text) <= 200
        assert any(unicodedata.category(c)[0] not in "CZ" for c in text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Mirzapur", "Mirzapur"),
        ("  Mirzapur \n", "Mirzapur"),
        ("मिर्ज़ापुर", "मिर्ज़ापुर"),
        ("क्‍ष", "क्‍ष"),  # a joiner belongs to the word
        ("{{ user.email }}", "(( user.email ))"),
        ("{% raw %}", "(% raw %)"),
        ("a\x00b\u202ec", "a b c"),
        (1499, "1499"),
        (1_499_000, "1499000"),
        (1499.5, "1499.5"),
        (12345.67, "12345.67"),
        (2.0, "2"),
        ("", None),
        (" \t\n", None),
        (None, None),
        (True, None),
        (float("inf"), None),
        (float("nan"), None),
        (["a"], None),
        ({"a": 1}, None),
    ],
)
def test_values(value: object, text: str | None) -> None:
    """Text and numbers stand in a message as a person would write them, all else is missing."""
    assert clean(value) == text


@given(
    value=st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters="{}"),
        min_size=1,
        max_size=200,
    )
)
def test_plain_text_is_not_touched(value: str) -> None:
    """A value without anything suspicious stands in the message as it came."""
    assert clean(value) == value


def test_user_data_are_not_read_again() -> None:
    """A value that looks like a placeholder, ours or the provider's, is not filled in."""
    text = a_text("{show_name} waits, {plan_name}")
    values = placeholder_values(
        PLACEHOLDERS, {"show_name": "{plan_name}{{ Profile.Email }}"}, {"plan": "secret"}
    )

    _, body = catalogue(text).render(text, values)

    assert body == "(plan_name)(( Profile.Email )) waits, secret"


def test_where_a_value_comes_from() -> None:
    """Each placeholder reads the property it names, of the event or of the user, and no other."""
    values = placeholder_values(
        PLACEHOLDERS, {"plan": "wrong"}, {"plan": "gold", "show_name": "x"}
    )

    assert values == {"plan_name": "gold"}


def test_missing_without_default_is_not_eligible() -> None:
    """With neither a value nor a default the text cannot be used; with one of them it can."""
    text = a_text("{show_name}, {plan_name}")
    texts = catalogue(text)

    assert texts.missing(text, {})
    assert texts.missing(text, {"show_name": "x"})
    assert not texts.missing(text, {"plan_name": "gold"})
    assert texts.render(text, {"plan_name": "gold"})[1] == "your show, gold"


def test_the_default_speaks_the_text_s_language() -> None:
    """What stands in for a missing value is taken in the language of the text that is sent."""
    placeholder = Placeholder("n", ("event_properties", "n"), "you", {"hi": "आप"})
    text = {code: a_text("{n}!", language=code) for code in ("hi", "en")}
    texts = Catalogue({}, {"n": placeholder})

    assert texts.render(text["hi"], {})[1] == "आप!"
    assert texts.render(text["en"], {})[1] == "you!"


def test_a_default_in_one_language_only() -> None:
    """A stand-in that exists in one language makes only that language's text usable."""
    placeholder = Placeholder("n", ("event_properties", "n"), None, {"hi": "आप"})
    texts = Catalogue({}, {"n": placeholder})

    assert texts.missing(a_text("{n}!", language="en"), {})
    assert not texts.missing(a_text("{n}!", language="hi"), {})


# Which text


KEYS = [
    (language, cohort, offer)
    for language in ("bho", "hi", "en")
    for cohort, offer in product((CHECKOUT, PAYMENT, "*"), ("rupee_1", "none", "*"))
]


@given(
    known=st.lists(st.sampled_from(KEYS), unique=True), chain=st.permutations(["bho", "hi", "en"])
)
def test_which_text_is_found(known: list[tuple[str, str, str]], chain: list[str]) -> None:
    """First the language, then the cohort's own text, then the offer's own: first come is used."""
    texts = Catalogue(
        {
            (language, cohort, PUSH, "urgency", offer): a_text(
                f"{cohort} {offer}", language=language
            )
            for language, cohort, offer in known
        },
        {},
    )
    order = [
        (language, cohort, offer)
        for language in chain
        for cohort, offer in product((CHECKOUT, "*"), ("rupee_1", "*"))
    ]
    expected = next((key for key in order if key in known), None)

    found = texts.find(CHECKOUT, PUSH, "urgency", "rupee_1", chain)

    if found is None:
        assert expected is None
    else:
        assert (found.language, found.body.render({})) == (
            expected and expected[0],
            expected and f"{expected[1]} {expected[2]}",
        )


def test_no_text_for_another_channel_or_angle() -> None:
    """A text is never used for a channel or an angle it was not written for."""
    texts = catalogue(a_text("push only"))

    assert texts.find(CHECKOUT, WHATSAPP, "urgency", "none", ["en"]) is None
    assert texts.find(CHECKOUT, PUSH, "scarcity", "none", ["en"]) is None
    assert texts.find(CHECKOUT, PUSH, "urgency", "none", ["en"]) is not None


LANGUAGES = Languages(
    default="en",
    codes={"bho": "bho", "bhojpuri": "bho", "hi": "hi", "hindi": "hi", "en": "en", "loop": "loop"},
    fallback={"bho": "hi", "loop": "hoop", "hoop": "loop"},
)


@pytest.mark.parametrize(
    ("value", "chain"),
    [
        ("Bhojpuri", ("bho", "hi", "en")),
        ("bho", ("bho", "hi", "en")),
        (" BHO-IN ", ("bho", "hi", "en")),
        ("hi_IN", ("hi", "en")),
        ("en-GB", ("en",)),
        ("Klingon", ("en",)),
        ("", ("en",)),
        (None, ("en",)),
        (7, ("en",)),
        (["hi"], ("en",)),
        ("loop", ("loop", "hoop", "en")),
    ],
)
def test_chain_of_languages(value: object, chain: tuple[str, ...]) -> None:
    """A name or a code leads over its stand-ins to the default, which is always last."""
    assert LANGUAGES.chain(value) == chain


@given(value=ANY_VALUE)
def test_any_language_value(value: object) -> None:
    """No value makes the chain empty, endless, or without the default."""
    chain = LANGUAGES.chain(value)

    assert chain[-1] == "en"
    assert len(set(chain)) == len(chain)


# Templates


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "a {b",
        "a b}",
        "{}",
        "{0}",
        "{a.b}",
        "{a[0]}",
        "{a!r}",
        "{a:>9}",
        "{{a}}",
        "{a b}",
    ],
)
def test_malformed_template(text: str) -> None:
    """A text with anything but plain names in single braces is refused when it is read."""
    with pytest.raises(ConfigurationError, match=r"placeholder|brace"):
        Template.of(text)


NAMES = st.sampled_from(["show_name", "plan_name", "x1"])
PIECES = st.lists(
    st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=5)
    | NAMES.map(lambda name: "{" + name + "}"),
    max_size=8,
)


@given(
    pieces=PIECES,
    values=st.fixed_dictionaries(dict.fromkeys(["show_name", "plan_name", "x1"], ANY_TEXT)),
)
def test_templates_are_filled_in(pieces: list[str], values: dict[str, str]) -> None:
    """A template renders as its pieces, each placeholder replaced once by its value."""
    rendered = Template.of("".join(pieces)).render(values)

    assert rendered == "".join(
        values[piece[1:-1]] if piece.startswith("{") else piece for piece in pieces
    )


@given(text=st.text(st.sampled_from("ab{}_!: .[]0"), max_size=12))
def test_any_template_is_read_or_refused(text: str) -> None:
    """No text makes anything but a template or ConfigurationError, nor leaves a brace."""
    try:
        template = Template.of(text)
    except ConfigurationError:
        return
    assert not any(set(literal) & set("{}") for literal in template.literals)
    assert all(name.isidentifier() for name in template.names)
