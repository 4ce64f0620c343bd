"""The published AsyncAPI document and JSON Schemas are those of the models."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from pbscast import deliveries, openings, requests, subscriptions
from pbscast_fanout.contract.files import files
from pbscast_fanout.contract.messages import CHANNELS, ENDPOINTS
from pbscast_fanout.contract.schemas import models

API = Path(__file__).parents[2] / "sdk" / "api"
FILES = files()


def test_the_files_are_those_of_the_models() -> None:
    found = {str(path.relative_to(API)): path.read_text() for path in API.rglob("*.json")}
    assert found == FILES, "the models have changed: run `make api`"


def test_every_reference_leads_somewhere() -> None:
    document = json.loads(FILES["asyncapi.json"])
    found = list(_references(document))
    assert found
    for reference in found:
        _resolve(document, reference)


@pytest.mark.parametrize("module", [openings, requests, subscriptions, deliveries])
def test_every_request_answer_and_message_is_told(module: Any) -> None:
    told = set(models())
    own = [
        model
        for name, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, BaseModel)
        and model.__module__ == module.__name__
        and name.endswith(("Request", "Response", "Message"))
        and not name.startswith("_")
        and name != "PageResponse"  # what all pages have in common
    ]
    assert own
    assert told.issuperset(own)


def test_every_service_has_its_operation() -> None:
    document = json.loads(FILES["asyncapi.json"])
    asked = {
        _resolve(document, operation["channel"]["$ref"])["address"]
        for operation in document["operations"].values()
        if operation["action"] == "receive"
    }
    assert asked == {endpoint.subject for endpoint in ENDPOINTS}


def test_every_token_of_a_subject_is_explained() -> None:
    document = json.loads(FILES["asyncapi.json"])
    for channel in CHANNELS:
        told = document["channels"][channel.name]
        assert all(part["description"] for part in told["parameters"].values())
        assert told["address"].format_map(dict.fromkeys(told["parameters"], "x"))


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("schemas/")])
def test_schemas_are_schemas_and_stand_alone(name: str) -> None:
    schema = json.loads(FILES[name])
    Draft202012Validator.check_schema(schema)
    for reference in _references(schema):
        _resolve(schema, reference)


def test_a_misspelt_criterion_is_refused() -> None:
    schema = Draft202012Validator(json.loads(FILES["schemas/SubscribeRequest.json"]))
    assert schema.is_valid({"owners": ["alice"], "where": "Resource_List.ncpus >= 64"})
    assert not schema.is_valid({"owner": ["alice"]})
    assert not schema.is_valid({"lease": 0})


def _references(node: Any) -> Iterator[str]:
    for key, part in node.items() if isinstance(node, dict) else ():
        if key == "$ref":
            yield part
        yield from _references(part)
    for part in node if isinstance(node, list) else ():
        yield from _references(part)


def _resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        document = document[step]
    return document
