"""Whatever stands in the files, they load or are refused in one line."""

import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.configuration.small_folder import SMALL, Files, to_toml, write

from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.domain.errors import ConfigurationError

EXAMPLE = {
    str(path.relative_to(bundled_example())): path.read_text()
    for path in sorted(bundled_example().rglob("*.toml"))
    if path.parent.name != "copy" or path.stem in {"en", "hi"}
}

JUNK: st.SearchStrategy[object] = st.recursive(
    st.builds(dict)
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    | st.sampled_from(["0s", "1h", "9d", "25:00", "*", "a|b", "{x}", "{", "en", "push", "none"])
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.*| \n", max_size=4), inner)
    ),
    max_leaves=4,
)

Place = tuple[dict[str, Any] | list[Any], str | int]


def places(values: dict[str, Any] | list[Any]) -> Iterator[Place]:
    """Walk through every place of a parsed document that holds a value."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield values, key
        if isinstance(value, dict | list):
            yield from places(value)


def check(files: Files) -> None:
    """Load the files, or be refused with one line."""
    with TemporaryDirectory() as folder:
        try:
            load(write(Path(folder), files))
        except ConfigurationError as error:
            line = str(error)
            assert line.isprintable()
            assert ": " in line


def spoil(files: dict[str, str], data: st.DataObject) -> dict[str, str]:
    """Put junk in the place of one value, of one key, or take one out."""
    name = data.draw(st.sampled_from(sorted(files)))
    values = deepcopy(tomllib.loads(files[name]))
    if not values:
        return files
    holder, key = data.draw(st.sampled_from(list(places(values))))
    change = data.draw(st.sampled_from(["value", "value", "value", "key", "gone"]))
    if change == "value":
        holder[key] = data.draw(JUNK)  # type: ignore[index]
    elif change == "key" and isinstance(holder, dict):
        holder[data.draw(st.text("ab.*| \n{", max_size=4))] = holder.pop(str(key))
    else:
        del holder[key]  # type: ignore[arg-type]
    return {**files, name: to_toml(values)}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_example_with_junk(data: st.DataObject) -> None:
    """The example with any one value spoilt loads, or is refused in one line."""
    check(spoil(EXAMPLE, data))


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_small_folder_with_junk(data: st.DataObject) -> None:
    """A folder with every key and one or two values spoilt loads, or is refused in one line."""
    files = spoil(dict(SMALL), data)
    check(spoil(files, data) if data.draw(st.booleans()) else files)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_small_folder_with_any_bytes(data: st.DataObject) -> None:
    """Files with any bytes put in or cut out load, or are refused in one line."""
    name = data.draw(st.sampled_from(sorted(SMALL)))
    content = SMALL[name].encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 20)))
    junk = data.draw(st.binary(max_size=8))
    check({**SMALL, name: content[:start] + junk + content[end:]})


def test_files_survive_the_round_trip() -> None:
    """The junk tests write TOML that says what the example says."""
    for text in (*EXAMPLE.values(), *SMALL.values()):
        values = tomllib.loads(text)
        assert tomllib.loads(to_toml(values)) == values
