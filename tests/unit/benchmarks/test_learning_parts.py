"""`python -m benchmarks learning` knows its parts."""

import pytest
from benchmarks import learning


@pytest.mark.parametrize("part", learning.PARTS)
def test_every_part_says_how_it_is_asked(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        learning.main([part, "--help"])
    assert ended.value.code == 0
    assert f"learning {part}" in capsys.readouterr().out


def test_an_unknown_part_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert learning.main(["nothing"]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in learning.PARTS)
