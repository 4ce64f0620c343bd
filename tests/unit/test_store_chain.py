"""The hash chain's canonical form: written down once and for all."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from pbscast_store.chain import GENESIS, hash_payload, leaf, link, microseconds

EVENT: dict[str, Any] = {
    "site": "sitea",
    "position": 7,
    "time": microseconds(datetime(2026, 11, 22, 9, 36, 57, 263000, UTC)),
    "logged": microseconds(datetime(2026, 11, 22, 9, 36, 57, 300001, UTC)),
    "kind": "job",
    "object_id": "19.sitea",
    "incarnation": 1,
    "revision": 3,
    "event": "state",
    "provenance": "journal",
    "owner": "alice",
    "payload_sha256": hash_payload('{"owner":"alice","state":"ä"}'),
}


def test_a_leaf_is_the_hash_of_the_form_that_is_written_down() -> None:
    form = (
        b"pbscast-event-1\0sitea\x007\x001795340217263000\x001795340217300001\0job\x0019.sitea\x001"
        b"\x003\0state\0journal\0=alice\0"
        + hashlib.sha256(b'{"owner":"alice","state":"\xc3\xa4"}').hexdigest().encode()
    )
    assert leaf(**EVENT) == hashlib.sha256(form).digest()
    assert leaf(**EVENT).hex() == "1f446c3d63bf4fb0c2e4eaf21913cd7aecdbb777d0c3ce3b9a85089029ba5f61"


def test_a_digest_is_the_hash_of_the_one_before_and_the_leaf() -> None:
    first = link(GENESIS, leaf(**EVENT))
    assert GENESIS == b"\0" * 32
    assert first.hex() == "33ac7c08601cf3db0760d7ed97b63a66c7e0fc309c63917d67ac81c544ae3208"


def test_every_part_of_an_event_counts() -> None:
    changes: dict[str, list[Any]] = {
        name: [value + 1] if isinstance(value, int) else [f"{value} ", ""]
        for name, value in EVENT.items()
        if isinstance(value, int | str)
    }
    changes["owner"] += [None, "=alice"]
    changes["payload_sha256"] = [hash_payload(""), bytes(32)]
    leaves = {leaf(**EVENT | {name: value}) for name in changes for value in changes[name]}
    assert len(leaves | {leaf(**EVENT)}) == sum(map(len, changes.values())) + 1


def test_times_are_exact_in_any_zone_and_before_1970() -> None:
    assert microseconds(datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)) == -1
    zone = timezone(timedelta(hours=5, minutes=30))
    assert microseconds(datetime(1970, 1, 1, 5, 30, 0, 1, zone)) == 1
    assert microseconds(datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)) == 253402300799999999
