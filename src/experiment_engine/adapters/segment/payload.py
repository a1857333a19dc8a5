"""What a body from Segment says happened, to whom, and when."""

from functools import partial

from experiment_engine.adapters import track_call
from experiment_engine.domain.events import Source

parse = partial(track_call.parse, source=Source.SEGMENT)
