from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pbscast.selection import first_fault
from pbscast.subscriptions import MOST_IDS, Filter, ModifyRequest, SubscribeRequest


def wanting(**fields: Any) -> Filter:
    return Filter.model_validate(fields)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"queue": "workq"}, "queue: there is nothing of this name to ask for"),
        ({"ids": ["1.sitea", "19"]}, "ids: '19' lacks its server"),
        ({"ids": ["x.sitea"]}, "ids: illegally formed job identifier: 'x.sitea'"),
        ({"ids": ["1.sitea"] * (MOST_IDS + 1)}, "ids: 100001 are too many: 100000 at most"),
        ({"names": ["fit", ""]}, "names.1: is empty"),
        ({"states": ["R", "r"]}, "states: unknown state 'r' (one of T, Q, H"),
        ({"events": ["bang"]}, "events.0: Input should be 'submit'"),
        ({"events": ["state", "create"]}, "events: no job has 'create'"),
        ({"events": ["purge"]}, "events: 'purge' comes after a job's last word"),
        ({"sites": ["SITE A"]}, "sites: 'SITE A' can be no site's name"),
        ({"attributes": ["Resource_List."]}, "attributes: 'Resource_List.' can be no attribute's"),
        ({"kinds": []}, "kinds: give at least one"),
        ({"kinds": ["node"], "owners": ["alice"]}, "owners: a node has none: only jobs do"),
        ({"kinds": ["site"], "ids": ["1.sitea"]}, "ids: capture's own events have none"),
        ({"where": "x" * 4097}, "where: is too long: 4096 characters are the most"),
        ({"lease": 9}, "lease: has to be at least 10, in seconds"),
        ({"delivery": "often"}, "delivery: Input should be 'at-least-once' or 'at-most-once'"),
        ({"delivery": "at-most-once", "shared": True}, "shared: what nobody acknowledges"),
    ],
)
def test_a_fault_names_its_part(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SubscribeRequest.model_validate(given)
    assert str(first_fault(raised.value)).startswith(fault)


def test_ids_are_kept_as_pbs_writes_them_each_once() -> None:
    given = ("007[].sitea", "7[].sitea", "7[012].sitea", "0.sitea")
    assert wanting(ids=given).ids == ("7[].sitea", "7[12].sitea", "0.sitea")
    assert wanting(kinds=("node",), ids=("node1", "node1")).ids == ("node1",)


def test_a_subscription_without_criteria_is_about_all_jobs() -> None:
    request = SubscribeRequest.model_validate_json("{}")
    assert (request.kinds, request.lease, request.shared) == (("job",), 600, False)


def test_a_change_has_to_change_something_and_not_contradict_itself() -> None:
    with pytest.raises(ValidationError, match="nothing to change"):
        ModifyRequest(id="s1")
    with pytest.raises(ValidationError, match=r"'1\.sitea' is to be added as well"):
        ModifyRequest(id="s1", add_ids=("1.sitea",), remove_ids=("1.sitea",))
    assert ModifyRequest(id="s1", attributes=()).attributes == ()
