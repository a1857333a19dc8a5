"""What holds for every suite: one printed seed for everything that Hypothesis draws.

`--hypothesis-seed=random` looks for new examples, `--hypothesis-profile=search` for more of them.
"""

import pytest
from hypothesis import settings

SEED = "20261122"  # the same examples on every run, so that a red gate is the change's own doing

settings.register_profile("gate", deadline=None, database=None, print_blob=True)
settings.register_profile("search", settings.get_profile("gate"), max_examples=2_000)
settings.load_profile("gate")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give Hypothesis its seed, unless the command line does."""
    if config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = SEED


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to draw the same examples again."""
    return f"Using --hypothesis-seed={config.getoption('hypothesis_seed')}"
