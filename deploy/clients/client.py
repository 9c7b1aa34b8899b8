"""A client as openapi-python-client makes it: posts one event and a batch, and reads what became of them."""

import datetime
import sys
import time

from tally import Client
from tally.api.counters import many_counters, subject_counters
from tally.api.events import post_events, receipt
from tally.models import Accepted, Event, EventsProblem, EventType, Properties, ReceiptAnswer, SubjectsAnswer

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
subject_id = "article:python-用"
now = datetime.datetime.now(datetime.timezone.utc)

properties = Properties.from_dict({"source": "feed", "position": 3, "score": 0.5, "first": True})
one = Event(
    event_id="py-1",
    type_=EventType.LIKE,
    actor_id="py",
    subject_id=subject_id,
    occurred_at=now,
    properties=properties,
)
posted = post_events.sync(client=client, body=one)
assert isinstance(posted, Accepted) and posted.accepted == 1 and posted.rejected == [], posted

batch = [
    Event(event_id="py-2", type_=EventType.VIEW, subject_id=subject_id, occurred_at=int(time.time() * 1000)),
    Event(event_id="py-3", type_=EventType.READ, subject_id=subject_id, duration_ms=6_000),
    Event(event_id="py 4", type_=EventType.LIKE, actor_id="py", subject_id=subject_id),
]
batched = post_events.sync(client=client, body=batch)
assert isinstance(batched, Accepted) and batched.accepted == 2, batched
assert [(rejected.index, rejected.event_id) for rejected in batched.rejected] == [(2, "py 4")], batched

invalid = Event(event_id="py-5", type_=EventType.LIKE, actor_id="py", subject_id="nothing")
refused = post_events.sync(client=client, body=invalid)
assert isinstance(refused, EventsProblem) and refused.status == 422, refused
assert refused.rejected[0].event_id == "py-5", refused

many = many_counters.sync(
    client=client, subject_id=[subject_id, "article:x"], actor_id="py", after=posted.receipt, wait_ms=10_000
)
assert isinstance(many, SubjectsAnswer) and len(many.items) == 2, many
assert many.items[0].viewer["likes"] is True, many

read = subject_counters.sync(subject_id, client=client, after=batched.receipt, wait_ms=10_000)
assert read.after == "applied" and read.counters["likes"] == 1 and read.counters["views"] == 1, read

state = receipt.sync(batched.receipt, client=client)
assert isinstance(state, ReceiptAnswer) and state.state in ("applied", "pending") and state.not_counted == [], state
