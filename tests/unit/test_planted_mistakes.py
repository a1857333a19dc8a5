"""The planted mistakes still fit the source; `make planted` shows that tests find them."""

import ast
import shutil
from pathlib import Path

import pytest
from tests.planted.mistakes import MISTAKES, Mistake

import experiment_engine

PACKAGE = Path(experiment_engine.__file__).parent
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the files that are edited."""
    copy = tmp_path_factory.mktemp("planted")
    for file in {edit.file for mistake in MISTAKES for edit in mistake.edits}:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / file, copy / file)
    return copy


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_can_be_planted(mistake: Mistake, package: Path) -> None:
    """Each piece of text is there exactly once, what stands in its place is Python."""
    files = {
        edit.file: (package / edit.file).read_text(encoding="utf-8") for edit in mistake.edits
    }
    try:
        mistake.plant(package)  # tests/planted/mistakes.py says what to do if this fails
        for file, before in files.items():
            planted = (package / file).read_text(encoding="utf-8")
            assert planted != before
            ast.parse(planted)
    finally:
        for file, before in files.items():
            (package / file).write_text(before, encoding="utf-8")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_test_that_finds_it_exists(mistake: Mistake) -> None:
    """The test that must find a mistake has not been renamed or moved."""
    file, _, name = mistake.found_by.removeprefix("tests/").partition("::")
    module = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
    assert name.partition("[")[0] in functions


def test_there_are_fifteen() -> None:
    """The list is whole, and names each mistake once."""
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) == 15
