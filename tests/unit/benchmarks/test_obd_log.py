"""Weights of the Open Bandit Dataset's logs, on a log made for the test."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from benchmarks.learning import obd

LOG = """,item_id,position,click,propensity_score
0,0,1,0,0.5
1,1,2,1,0.25
2,1,3,1,0.5
3,0,3,0,0.25
"""
SHOWN_BY_BTS = np.array([[0.9, 0.8, 0.3], [0.1, 0.2, 0.7]])  # two items, three positions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for campaign, logged_by in obd.KNOWN:
        with gzip.open(tmp_path / f"obd_{logged_by}_{campaign}.csv.gz", "wt") as file:
            file.write(LOG)
        np.savez(tmp_path / f"obd_actiondist_bts_{campaign}.npz", action_dist=SHOWN_BY_BTS)
    return tmp_path


def test_a_weight_is_the_other_policys_share_of_item_and_position(folder: Path) -> None:
    weights, clicks = obd.weighed_log(folder, "men", "random")
    assert weights == pytest.approx([0.9 / 0.5, 0.2 / 0.25, 0.7 / 0.5, 0.3 / 0.25])
    assert list(clicks) == [0, 1, 1, 0]
    weights, _ = obd.weighed_log(folder, "men", "bts")
    assert weights == pytest.approx([0.5 / 0.5, 0.5 / 0.25, 0.5 / 0.5, 0.5 / 0.25])


def test_ours_is_the_independent_figure_and_another_log_is_not_the_known_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(obd.checks(folder))
    assert len(found) == 12
    assert found[0].ours == pytest.approx((0.8 + 1.4) / 4)
    assert found[1].ours == pytest.approx((0.8 + 1.4) / (1.8 + 0.8 + 1.4 + 1.2))
    assert all(abs(check.ours - check.independent) < obd.CLOSE for check in found)
    assert not any(check.is_equal for check in found)
    assert obd.main(["--data", str(folder)]) == 1
    assert capsys.readouterr().out.count("NO") == 12


def test_missing_logs_are_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert obd.main(["--data", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert "obd_random_all.csv.gz" in line
    assert "obp 0.4.1" in line
