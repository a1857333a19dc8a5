"""Bodies that are meant to break a parser: JSON's dark corners, and mutations that know its shape.

Everything is drawn from one generator, so that a seed draws the same bodies again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

# As they stand in a body. Each has all its brackets and quotes: its neighbours can be read.
DARK_VALUES: Sequence[str] = (
    *("NaN", "-NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "1E400", "-0", "-0.0"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 400),
    *("18446744073709551616", "1e308", "4.9e-324", "0.1" + "0" * 400, "1e18", "253402300800000"),
    *("true", "false", "null", "[]", "{}", "[[]]", "[null]", '[{"a":1}]', '{"a":{"b":[1]}}'),
    *('""', '" "', '"\\t"', '"0"', '"null"', '"NaN"', '"-1"', '"{}"', '"[]"', '"true"', '"1e999"'),
    *('"\\ud800"', '"\\udfff"', '"\\udc00\\ud800"', '"x\\ud83d"', '"\\ud83d\\ude00"'),
    *(
        '"a\\u0000b"',
        '"\\u0000"',
        '"\\u001b[31m"',
        '"\\u202e"',
        '"\\ufeff"',
        '"\\u2028"',
        '"é\u0301"',
    ),
    *(
        '"{{7*7}}"',
        '"{% raw %}"',
        '"${x}"',
        '"{0.__class__}"',
        '"%s%n"',
        '"\'; DROP TABLE event;--"',
    ),
    *('"<script>alert(1)</script>"', '"../../etc/passwd"', "\"=cmd|' /C calc'!A0\"", '"a\\nb"'),
    *('"2026-02-30 10:00:00"', '"2026-11-22T25:00:00Z"', '"9999-12-31T23:59:59Z"', '"2026-11-22"'),
    *('"0000-00-00"', '"+292278994-08-17T07:12:55Z"', '"1e12"', '"2026-11-22T10:00:00+99:99"'),
    *("[" * 31 + "]" * 31, "[" * 33 + "]" * 33, '{"a":' * 33 + "1" + "}" * 33),
    *('"' + "x" * 257 + '"', '"' + "ü" * 5_000 + '"', '{"a":1,"a":2}', '{"":1}', '{"\\ud800":1}'),
)
HUGE_VALUES: Sequence[str] = (
    *("9" * 5_000, "-" + "9" * 5_000, "1." + "9" * 5_000, "[" * 5_000 + "]" * 5_000),
    *('{"a":' * 3_000 + "1" + "}" * 3_000, '"' + "y" * 70_000 + '"', "[" + "1," * 20_000 + "1]"),
    *("{" + ",".join(f'"k{n}":{n}' for n in range(10_000)) + "}", '"' + "\\u0000" * 5_000 + '"'),
    "[" * 100_000 + "]" * 100_000,
)
# What is no value in any JSON, and may take its neighbours with it.
BROKEN_VALUES: Sequence[str] = (
    *("undefined", "01", "1.", ".5", "+1", "0x1F", "1_000", "'x'", "tru", "nul", "--1", "1e", ""),
    *(
        '"\\x"',
        '"\\u12"',
        '"open',
        "[1",
        '{"a"',
        '{"a":',
        "}",
        "]",
        "[1 2]",
        '{"a" 1}',
        "/*x*/1",
        "#",
    ),
)
DARK_NAMES: Sequence[str] = (
    *('""', '"__proto__"', '"\\u0000"', '"\\ud800"', '"user_id "', '"USER_ID"', '"$insert_id"'),
    *('"events"', '"users"', '"' + "k" * 300 + '"', '"event_type"', '"user_id"', '"event_time"'),
)
BROKEN_BODIES: Sequence[bytes] = (
    *(
        b"",
        b" ",
        b"\x00",
        b"null",
        b"true",
        b"7",
        b'"x"',
        b"[",
        b"{",
        b"]",
        b"}",
        b"[[[[",
        b"[1,2",
    ),
    *(b"[]", b"{}", b"[,]", b"{,}", b"[1,]", b"[{}]", b"[[]]", b"[null]", b'{"events":[]}'),
    *(
        b'{"events":{}}',
        b'{"events":[null,7]}',
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xfe\xff",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf[]",
        b"user_id=1&b=2",
        b"<xml/>",
        b"[" * 100_000,
        b"{" * 100_000,
    ),
    *(
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'"' + b"\\" * 9_999,
        b'[{"a":"' * 9_000,
    ),
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "cp037")


@dataclass(frozen=True)
class Raw:
    """A piece of a body that is written as it stands."""

    text: str


def written(value: Any) -> str:
    """Write a value with what is raw in it; members are pairs, so that a name may come twice."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, tuple):
        return "{" + ",".join(f"{written(name)}:{written(held)}" for name, held in value) + "}"
    return json.dumps(value)


def taken_apart(value: Any) -> Any:
    """Return a value whose objects are tuples of pairs."""
    if isinstance(value, Mapping):
        return tuple((name, taken_apart(held)) for name, held in value.items())
    return [taken_apart(one) for one in value] if isinstance(value, list) else value


class Mutations:
    """Draws hostile bodies that resemble an example."""

    def __init__(self, chance: Random) -> None:
        """Draw everything from this chance."""
        self._chance = chance
        self._of_text: Sequence[Callable[[bytes], bytes]] = (
            self._flipped,
            self._cut,
            self._with_junk,
            self._spliced,
            self._encoded,
            self._padded,
        )

    def body(self, example: Any) -> bytes:
        """Return a body: an example with dark corners, or bytes that are hardly one."""
        if self._chance.random() < 0.03:
            return self._chance.choice(BROKEN_BODIES)
        tree = taken_apart(example)
        for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
            tree = self._changed(tree)
        body = written(tree).encode("utf-8", "surrogatepass")
        if self._chance.random() < 0.3:
            body = self._chance.choice(self._of_text)(body)
        return body

    def value(self) -> Raw:
        """Return a dark value; seldom a huge one, and now and then one that is none."""
        drawn = self._chance.random()
        values = HUGE_VALUES if drawn < 0.005 else BROKEN_VALUES if drawn < 0.1 else DARK_VALUES
        return Raw(self._chance.choice(values))

    def _changed(self, tree: Any) -> Any:
        """Change one place, or the places that hold it."""
        if not isinstance(tree, tuple | list) or not tree or self._chance.random() < 0.1:
            return self._wrapped(tree) if self._chance.random() < 0.3 else self.value()
        at = self._chance.randrange(len(tree))
        if isinstance(tree, list):
            return [*tree[:at], self._changed(tree[at]), *tree[at + 1 :]]
        name, held = tree[at]
        changed: Sequence[tuple[Any, Any]] = self._chance.choice(
            (
                [(name, self._changed(held))],
                [(name, self.value())],
                [(name, held), (name, self.value())],
                [(name, self.value()), (name, held)],
                [(Raw(self._chance.choice(DARK_NAMES)), held)],
                [(name, held), (Raw(self._chance.choice(DARK_NAMES)), self.value())],
                [],
            )
        )
        return (*tree[:at], *changed, *tree[at + 1 :])

    def _wrapped(self, tree: Any) -> Any:
        return self._chance.choice(
            ([tree], [tree, tree], (("events", [tree]),), (("users", [tree]),), [[tree]])
        )

    def _flipped(self, body: bytes) -> bytes:
        if not body:
            return body
        at = self._chance.randrange(len(body))
        return body[:at] + bytes([body[at] ^ 1 << self._chance.randrange(8)]) + body[at + 1 :]

    def _cut(self, body: bytes) -> bytes:
        return body[: self._chance.randrange(len(body) + 1)]

    def _with_junk(self, body: bytes) -> bytes:
        at = self._chance.randrange(len(body) + 1)
        return body[:at] + self._chance.randbytes(self._chance.randrange(1, 9)) + body[at:]

    def _spliced(self, body: bytes) -> bytes:
        one, other = sorted(self._chance.randrange(len(body) + 1) for _ in range(2))
        return body[:one] + body[one:other] * 2 + body[other:]

    def _encoded(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "replace")
        return text.encode(self._chance.choice(ENCODINGS), "replace")

    def _padded(self, body: bytes) -> bytes:
        return self._chance.choice((b"\xef\xbb\xbf", b"\n \t", b"\x00", b"\xa0")) + body
