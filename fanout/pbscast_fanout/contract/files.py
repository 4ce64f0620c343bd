"""The files that are published: ``asyncapi.json`` and one schema for each model that travels."""

from __future__ import annotations

import json

from pbscast_fanout.contract.document import document
from pbscast_fanout.contract.schemas import stand_alone


def files() -> dict[str, str]:
    """Return their names and texts; the same release gives the same text."""
    schemas = {f"schemas/{name}.json": schema for name, schema in stand_alone().items()}
    contents = {"asyncapi.json": document(), **schemas}
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in contents.items()
    }
