from __future__ import annotations

import json
from datetime import UTC, datetime

from pbscast import wire
from pbscast.events import Change, ChangePayload, Finalize, FinalizePayload, Payload, Reason
from pbscast_fanout.batches import compose
from pbscast_fanout.fences import HEADROOM
from pbscast_store.records import Record

LIMIT = 10_000


def record_of(payload: Payload, event: str = "modify") -> Record:
    return Record(
        site="sitea",
        position=7,
        time=datetime(2026, 1, 2, tzinfo=UTC),
        kind="job",
        id="1.sitea",
        incarnation=1,
        revision=2,
        event=event,
        provenance="journal",
        owner="alice",
        payload=wire.encode_payload(payload),
        logged=datetime(2026, 1, 2, tzinfo=UTC),
        digest=None,
    )


def published(payload: Payload, event: str = "modify") -> tuple[bytes, bool]:
    message = compose(record_of(payload, event), LIMIT + HEADROOM)
    return message.body, message.cut


def test_an_event_that_fits_is_published_as_the_log_has_it() -> None:
    record = record_of(ChangePayload(owner="alice", changed={"Variable_List": "x" * 100}))
    message = compose(record, LIMIT + HEADROOM)
    assert (message.body, message.cut) == (record.encode(), False)
    assert message.subject == "pbs.v1.sitea.job.alice.1/sitea.-.modify"


def test_the_largest_values_are_left_out_and_named() -> None:
    big = ChangePayload(
        owner="alice",
        state="R",
        changed={"Variable_List": "x" * 9_000, "Account_Name": "y" * 3_000, "comment": "z" * 500},
        removed=("Hold_Types",),
    )
    body, cut = published(big)
    event = wire.decode(body)
    assert cut
    assert len(body) <= LIMIT
    assert isinstance(event, Change)
    assert event.omitted == ("Variable_List",)
    assert event.changed == {"Account_Name": "y" * 3_000, "comment": "z" * 500}
    assert (event.owner, event.state, event.removed) == ("alice", "R", ("Hold_Types",))


def test_names_that_do_not_fit_leave_the_header_and_short_fields() -> None:
    many = {f"Resource_List.some_resource_with_a_long_name_{n}": "1" for n in range(1_000)}
    body, cut = published(ChangePayload(owner="alice", name="n" * 20_000, changed=many))
    event = wire.decode(body)
    assert cut
    assert len(body) <= LIMIT
    assert isinstance(event, Change)
    assert (event.omitted, event.changed, event.owner, event.name) == (("*",), {}, "alice", None)
    assert (event.position, event.revision) == (7, 2)


def test_a_finalize_keeps_its_verdict() -> None:
    usage = {f"resource_{n}": "9" * 400 for n in range(100)}
    final = FinalizePayload(owner="alice", reason=Reason.FAILED, exit_status=1, usage=usage)
    body, cut = published(final, "finalize")
    event = wire.decode(body)
    assert cut
    assert len(body) <= LIMIT
    assert isinstance(event, Finalize)
    assert (event.reason, event.exit_status) == (Reason.FAILED, 1)
    assert set(event.omitted) | set(event.usage) == set(usage)
    assert len(event.usage) > 10


def test_no_more_is_left_out_than_has_to_be() -> None:
    values = {f"a{n}": "v" * 1_000 for n in range(12)}
    event = json.loads(published(ChangePayload(changed=values))[0])["data"]
    assert len(event["changed"]) == 9


def test_values_are_measured_in_bytes() -> None:
    body, cut = published(ChangePayload(changed={"comment": "ü" * 6_000}))
    assert cut
    assert len(body) <= LIMIT
