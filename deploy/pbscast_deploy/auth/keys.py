"""NKeys: Ed25519 keys as NATS writes them, their first letter says what they are for."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import nacl.exceptions
import nacl.signing
import nkeys  # type: ignore[import-untyped]

from pbscast.errors import ConfigError
from pbscast.newfile import create

if TYPE_CHECKING:
    from pathlib import Path

_PUBLIC: Final = re.compile(r"[OAU][A-Z2-7]{55}")
_OTHERS: Final = 0o077
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
"""No secret, and read by other users than the administrator, once copied."""


class Kind(IntEnum):
    """What a key is for; the value is the first byte of its text."""

    OPERATOR = nkeys.PREFIX_BYTE_OPERATOR
    ACCOUNT = nkeys.PREFIX_BYTE_ACCOUNT
    USER = nkeys.PREFIX_BYTE_USER


class Key:
    """A key that signs. Its ``repr`` does not tell the seed."""

    def __init__(self, seed: bytes) -> None:
        """Raises ValueError if the text is no seed of an operator, account or user."""
        try:
            prefix, secret = nkeys.decode_seed(seed)
            self.kind = Kind(prefix)
            if nkeys.encode_seed(bytes(secret), prefix) != seed:
                raise ValueError("not the seed of an NKey")  # noqa: TRY301 - as all others
        except (nkeys.NkeysError, ValueError, TypeError) as error:
            raise ValueError("not the seed of an NKey") from error
        self.seed = seed
        self._pair = nkeys.from_seed(seed)
        self.public: str = self._pair.public_key.decode()

    @classmethod
    def make(cls, kind: Kind) -> Key:
        return cls(nkeys.encode_seed(secrets.token_bytes(32), kind))

    @classmethod
    def load(cls, path: Path) -> Key:
        """Raises ConfigError for a file that is missing, readable by others, or no seed."""
        try:
            mode, content = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise ConfigError(f"key {path}: cannot be read: {error.strerror}") from error
        if mode & _OTHERS:
            raise ConfigError(f"key {path}: others may read it: chmod 600 {path}")
        try:
            return cls(content.strip())
        except ValueError as error:
            raise ConfigError(f"key {path}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the seed, for its owner alone; replaces nothing. Raises OSError."""
        create(path, self.seed + b"\n", PRIVATE)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._pair.sign(message))


def is_public(text: str) -> bool:
    """Whether the text is the public key of an operator, account or user."""
    if _PUBLIC.fullmatch(text) is None:
        return False
    raw = base64.b32decode(text)
    return binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") == raw[-2:]


def verify(public: str, message: bytes, signature: bytes) -> bool:
    """Whether that key made this signature of this message."""
    if not is_public(public):
        return False
    raw = base64.b32decode(public)
    try:
        nacl.signing.VerifyKey(raw[1:-2]).verify(message, signature)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError):
        return False
    return True


def keyless_account(*names: str) -> str:
    """Return the id of the account of these names: the same always, and nobody has its key.

    An account's own key is needed nowhere: the operator signs its token, and signing keys those of
    its users. So whoever knows a name knows its account.
    """
    digest = sha256("\0".join(("pbscast", *names)).encode()).digest()
    raw = bytes([Kind.ACCOUNT]) + digest
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode()
