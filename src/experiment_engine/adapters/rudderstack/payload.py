"""What a body from RudderStack says happened, to whom, and when.

Facts: https://www.rudderstack.com/docs/destinations/webhooks/setup-guide. It documents no
signature: the destination's own header carries the secret.
"""

from functools import partial

from experiment_engine.adapters import track_call
from experiment_engine.domain.events import Source

parse = partial(track_call.parse, source=Source.RUDDERSTACK)
