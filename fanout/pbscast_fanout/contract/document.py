"""The AsyncAPI 3 document: what the fan-out tier sends, and what it answers."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel

from pbscast.requests import SERVICE
from pbscast_fanout.contract.messages import CHANNELS, ENDPOINTS, PARAMETERS, Channel, Endpoint
from pbscast_fanout.contract.schemas import definitions, models

Part = dict[str, Any]

_INTRODUCTION: Final = (
    "Every change of every PBS job, told once and in order. Events are on the stream `PBS`;"
    " requests are JSON objects sent to a service's subject, and answered on the reply subject."
    " An error is an answer with the headers `Nats-Service-Error` (`NotFoundError: one line`) and"
    " `Nats-Service-Error-Code` (as in HTTP). A reader ignores fields that it does not know."
    " Where NATS has accounts all this stays the same: the server says who asks, and everybody is"
    " told what he may see."
)

_DRAFT_7: Final = {"prefixItems": "items"}
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


def document() -> Part:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": SERVICE,
            "version": version("pbscast"),
            "description": _INTRODUCTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {model.__name__: _message(model) for model in models()},
            "schemas": _as_draft_7(definitions("#/components/schemas/{model}")),
        },
    }


def _as_draft_7(node: Any) -> Any:
    """Return schemas as AsyncAPI has them: a tuple's members stand under ``items``."""
    if isinstance(node, list):
        return [_as_draft_7(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {_DRAFT_7.get(key, key): _as_draft_7(part) for key, part in node.items()}


def _channels() -> Part:
    published = {channel.name: _published(channel) for channel in CHANNELS}
    asked: Part = {}
    for endpoint in ENDPOINTS:
        name = _name(endpoint)
        asked[name] = {"address": endpoint.subject, "messages": _messages(endpoint.request)}
        # The answer goes to the subject that the request names for it.
        asked[f"{name}Reply"] = {"address": None, "messages": _messages(endpoint.response)}
    return published | asked


def _published(channel: Channel) -> Part:
    names = _PARAMETER.findall(channel.subject)
    return {
        "address": channel.subject,
        "description": channel.description,
        "messages": _messages(*channel.messages),
        "parameters": {name: {"description": PARAMETERS[name]} for name in names},
    }


def _operations() -> Part:
    sent = {
        f"send{channel.name[0].upper()}{channel.name[1:]}": {
            "action": "send",
            "channel": _reference("channels", channel.name),
        }
        for channel in CHANNELS
    }
    return sent | {_name(endpoint): _answer(endpoint) for endpoint in ENDPOINTS}


def _answer(endpoint: Endpoint) -> Part:
    name = _name(endpoint)
    return {
        "action": "receive",
        "channel": _reference("channels", name),
        "bindings": {"nats": {"queue": "q"}},
        "reply": {"channel": _reference("channels", f"{name}Reply")},
    }


def _message(model: type[BaseModel]) -> Part:
    return {"payload": _reference("components/schemas", model.__name__)}


def _messages(*given: type[BaseModel]) -> Part:
    return {model.__name__: _reference("components/messages", model.__name__) for model in given}


def _name(endpoint: Endpoint) -> str:
    return endpoint.subject.rpartition(".")[2]


def _reference(where: str, name: str) -> Part:
    return {"$ref": f"#/{where}/{name}"}
