"""Learning looks where counts have moved: no sign of that is lost."""

import pytest
from tests.support.configuration import COHORT
from tests.support.failing_storage import fail_once
from tests.support.start import Start

from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.identifiers import CohortName


def test_a_look_that_failed_is_made_up_for(start: Start) -> None:
    """Where the database went away while the counts were read, the next look reads them."""
    engine = start()
    engine.sent("usr_1")
    before = engine.engine.policies[CohortName(COHORT)].snapshot.id
    fail_once(engine.engine)
    with pytest.raises(StorageUnavailable):
        engine.learn()
    assert engine.engine.policies[CohortName(COHORT)].snapshot.id == before

    engine.learn()
    assert engine.engine.policies[CohortName(COHORT)].snapshot.id != before


def test_what_moves_nothing_takes_no_sign_away(start: Start) -> None:
    """A claim that finds nothing ends while another thread takes in something: that is learned."""
    engine = start()
    engine.engine.counts_moved.clear()

    meanwhile = [engine.engine.counts_moved.set]  # by another thread, between a look and its end

    class Nothing(list[Experiment]):
        def __len__(self) -> int:
            if meanwhile:
                meanwhile.pop()()
            return 0

    engine.engine.ground.tell_moves(Nothing())
    assert engine.engine.counts_moved.is_set()
