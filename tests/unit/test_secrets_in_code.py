"""Secrets are compared in constant time, wherever in the code they are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiment_engine import __file__ as package

SOURCE = Path(package).parent
FILES = sorted(SOURCE.rglob("*.py"))

_SECRET = re.compile(
    r"(^|_)(secrets?|tokens?|passcode|password|signature|signed|hmac|mac|mark|credentials?|"
    r"presented|api_key)($|_)"
)

# Named like secrets, and none: scopes, whether something is set, and signs of JSON's grammar.
_NO_SECRETS = {
    "scope in secret.scopes",
    "bool(self.clevertap_account_id) != bool(self.clevertap_passcode)",
    *("token[0] in _CLOSERS", "token[0] in (b']', b'}')", "mark in _CLOSERS"),
    *("mark in (b']', b'}')", "expected.pop() != mark", "mark == b','"),
    "known == mark",  # which copy was begun: both are in the databases of who runs it
}


def names_in(node: ast.AST) -> Iterator[str]:
    """Return every name that an operand is made of."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        if isinstance(part, ast.Attribute):
            yield part.attr


def comparisons_of_secrets(source: str) -> list[str]:
    """Return the comparisons by `==`, `!=` or `in` in which a secret takes part."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        by_value = [isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops]
        operands = [node.left, *node.comparators]
        against_text = [isinstance(operand, ast.Constant) for operand in operands]
        named = any(_SECRET.search(name) for operand in operands for name in names_in(operand))
        if any(by_value) and named and not any(against_text):
            found.append(ast.unparse(node))
    return [expression for expression in found if expression not in _NO_SECRETS]


@pytest.mark.parametrize(
    "planted",
    [
        "token == given",
        "if x.secret != other: pass",
        "known = presented in secrets",
        "any(signature == one for one in signatures)",
        "credential.token.get_secret_value() == value",
    ],
)
def test_the_check_finds_a_planted_comparison(planted: str) -> None:
    assert comparisons_of_secrets(planted)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_secret_is_compared_by_its_letters(path: Path) -> None:
    """`==` stops at the first letter that differs, and so tells how many were right."""
    assert comparisons_of_secrets(path.read_text(encoding="utf-8")) == []


def test_every_statement_hides_whom_it_is_about() -> None:
    """An error of SQLAlchemy would repeat the parameters, and so the person, in the log."""
    calls = [
        node
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("create_engine")
    ]
    assert len(calls) > 5
    assert all("hide_parameters=True" in ast.unparse(call) for call in calls)
