"""NATS tokens (JWT, version 2): claims in JSON, signed by an NKey. And credentials files."""

from __future__ import annotations

import base64
import binascii
import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pbscast.errors import DecodeError
from pbscast_deploy.auth.keys import verify

if TYPE_CHECKING:
    from pbscast_deploy.auth.keys import Key

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_VERSION: Final = 2
_JWT: Final = re.compile(r"-----BEGIN NATS USER JWT-----\s*(\S+)\s*------END NATS USER JWT------")

_CREDENTIALS: Final = """\
-----BEGIN NATS USER JWT-----
{token}
------END NATS USER JWT------

Whoever has this file is {name}: keep it to yourself.

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def encode(claims: dict[str, Any], key: Key) -> str:
    """Return the token: ``claims`` (sub, name, iat, nats …) with issuer and id, signed."""
    full = {**claims, "iss": key.public}
    full["nats"] = {**claims["nats"], "version": _VERSION}
    full["jti"] = base64.b32encode(sha256(_json(full)).digest()).decode().rstrip("=")
    body = f"{_base64(_json(_HEADER))}.{_base64(_json(full))}"
    return f"{body}.{_base64(key.sign(body.encode()))}"


def decode(token: str) -> dict[str, Any]:
    """Return the claims of a token that its issuer has signed; not whether he was entitled to.

    Raises DecodeError.
    """
    try:
        header, claims, signature = (_bytes(part) for part in token.split("."))
        content = json.loads(claims)
        issuer = content["iss"]
        is_ours = json.loads(header) == _HEADER and content["nats"]["version"] == _VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise DecodeError("not a NATS token of version 2") from error
    message = token.rpartition(".")[0].encode()
    if not is_ours or not isinstance(issuer, str) or not verify(issuer, message, signature):
        raise DecodeError("not a NATS token of version 2, or not signed by its issuer")
    return dict(content)


def credentials(token: str, key: Key, name: str) -> str:
    """Return the content of a credentials file, which is secret."""
    return _CREDENTIALS.format(token=token, seed=key.seed.decode(), name=name)


def token_of(content: str) -> str:
    """Return the token in a credentials file. Raises DecodeError."""
    found = _JWT.search(content)
    if found is None:
        raise DecodeError("not a credentials file")
    return found[1]


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
