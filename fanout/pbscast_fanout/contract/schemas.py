"""JSON Schemas (2020-12) of the models, with what their docstrings promise."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pbscast_fanout.contract.messages import CHANNELS, ENDPOINTS, CloudEvent

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def models() -> list[type[BaseModel]]:
    """Return every model that travels by itself, each once."""
    asked = [model for endpoint in ENDPOINTS for model in (endpoint.request, endpoint.response)]
    sent = [model for channel in CHANNELS for model in channel.messages]
    return list(dict.fromkeys([CloudEvent, *asked, *sent]))


def definitions(reference: str) -> dict[str, Schema]:
    """Return the schemas of all models and of what they consist of.

    `reference` says how one names another, ``{model}`` standing for its name.
    """
    _, found = models_json_schema(
        [(model, "validation") for model in models()], ref_template=reference
    )
    schemas: dict[str, Schema] = found["$defs"]
    for model in _with_parts(models()):
        if model.__name__ in schemas:
            _describe(model, schemas[model.__name__])
    _as_they_travel(schemas, reference)
    return dict(sorted(schemas.items()))


def stand_alone() -> dict[str, Schema]:
    """Return each model's schema with all that it refers to, by the model's name."""
    schemas = definitions("#/$defs/{model}")
    return {model.__name__: _with_needed(model.__name__, schemas) for model in models()}


def _with_needed(name: str, schemas: dict[str, Schema]) -> Schema:
    own = schemas[name]
    parts = {part: schemas[part] for part in sorted(_needed(own, schemas))}
    return {"$schema": DIALECT, **own} | ({"$defs": parts} if parts else {})


def _as_they_travel(schemas: dict[str, Schema], reference: str) -> None:
    """Say what messages have that the models do not ask for.

    Where a model holds an event, the message holds the whole CloudEvents object; what tells
    messages apart is always there.
    """
    for schema in schemas.values():
        _drop(schema, "discriminator")  # OpenAPI's word: it adds nothing to the constants
        if "const" in schema.get("properties", {}).get("what", {}):
            schema["required"] = ["what", *schema.get("required", ())]
    event = {"$ref": reference.format(model=CloudEvent.__name__)}
    schemas["EventMessage"]["properties"]["event"] = event
    schemas["HistoryResponse"]["properties"]["events"]["items"] = event


def _drop(node: Any, keyword: str) -> None:
    """Take a keyword out of a schema and of all within it."""
    if isinstance(node, dict):
        node.pop(keyword, None)
    for part in _within(node):
        _drop(part, keyword)


def _within(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _describe(model: type[BaseModel], schema: Schema) -> None:
    """Add the fields' docstrings, and take out titles that only repeat a name."""
    texts = _docstrings(model)
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if name in texts:
            field["description"] = texts[name]
    if "description" in schema:
        schema["description"] = _plain(schema["description"])


@cache
def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the text under each field, an inherited one included."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            [body] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(body, ast.ClassDef)  # noqa: S101 - it is a class's source
            texts |= dict(_texts(body))
    return texts


def _texts(body: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(said))
            ):
                yield name, _plain(inspect.cleandoc(said))


def _plain(text: str) -> str:
    """Return a docstring as one line a paragraph, without markup."""
    paragraphs = text.replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _with_parts(given: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return models and those that their fields hold."""
    found: dict[type[BaseModel], None] = {}
    waiting = list(given)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found[model] = None
            waiting += [
                part for field in model.model_fields.values() for part in _parts(field.annotation)
            ]
    return list(found)


def _parts(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _parts(part)


def _needed(schema: Schema, schemas: dict[str, Schema]) -> set[str]:
    """Return the names of all schemas that one refers to, directly or not."""
    needed: set[str] = set()
    waiting = [schema]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in needed:
                needed.add(name)
                waiting.append(schemas[name])
    return needed


def _references(node: Any) -> Iterable[str]:
    if isinstance(node, dict) and "$ref" in node:
        yield node["$ref"].rpartition("/")[2]
    for part in _within(node):
        yield from _references(part)
