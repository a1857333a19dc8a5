"""The audit never takes silence for an answer."""

import datetime as dt
from typing import Any

import pytest
from requirements.audit import CLEAN, NOT_AUDITED, VULNERABLE, faults_of, judge, waivers

LOCKED = ["alembic", "babel"]
TODAY = dt.date(2026, 11, 26)
WAIVER = {"id": "PYSEC-1", "until": TODAY, "reason": "not reached"}


def test_what_the_service_did_not_answer_about_is_not_audited() -> None:
    """pip-audit skips what its service does not know, and ends with success: we do not."""
    skipped = {"name": "babel", "skip_reason": "Dependency not found"}
    report = {"dependencies": [{"name": "alembic", "version": "1", "vulns": []}, skipped]}
    verdict = judge(LOCKED, faults_of(report), {})
    assert verdict.status == NOT_AUDITED
    assert verdict.lines[-1].startswith("NOT AUDITED: 1 of 2 packages")


def test_an_unreachable_service_is_no_success() -> None:
    verdict = judge(LOCKED, {}, {})
    assert verdict.status == NOT_AUDITED
    assert not any("audited:" in line for line in verdict.lines)


def test_a_known_vulnerability_fails_also_where_others_were_not_audited() -> None:
    verdict = judge(LOCKED, {"alembic": ["PYSEC-1"]}, {})
    assert verdict.status == VULNERABLE
    assert verdict.lines[0] == "VULNERABLE: alembic: PYSEC-1"


def test_all_audited_and_nothing_known_is_a_success() -> None:
    verdict = judge(LOCKED, {"alembic": [], "babel": []}, {})
    assert verdict.status == CLEAN
    assert verdict.lines == ["audited: 2 packages, none with an open known vulnerability"]


@pytest.mark.parametrize(("days", "status"), [(0, CLEAN), (1, VULNERABLE)])
def test_a_waiver_holds_until_its_day_has_passed(days: int, status: int) -> None:
    document: dict[str, Any] = {"waiver": [WAIVER]}
    waived = waivers(document, TODAY + dt.timedelta(days=days))
    found = {"alembic": ["PYSEC-1"], "babel": []}
    assert judge(LOCKED, found, waived).status == status
