"""The page about the public interface, run as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest

from experiment_engine.domain.bandit.policies import POLICIES

PAGE = (Path(__file__).parents[4] / "docs" / "python-interface.md").read_text(encoding="utf-8")


def test_the_example_does_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Pasted one after another, the page's lines run, and print what stands beside them."""
    names: dict[str, Any] = {}
    for example in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(example, "docs/python-interface.md", "exec"), names)

    printed = [float(number) for number in capsys.readouterr().out.split()]
    assert len(printed) == 2
    assert min(printed) > 0.8


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_named(name: str) -> None:
    """What can be built is listed."""
    assert f'`"{name}"`' in PAGE
