"""The keys that sign checkpoints: Ed25519, in PEM files that openssl reads as well."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from pbscast.errors import ConfigError
from pbscast.newfile import create

_OTHERS: Final = 0o077
_END: Final = b"-----END PUBLIC KEY-----"


class SigningKey:
    """What signs. Whoever has it can make a log look untouched: keep it from who writes the log."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = _key_id(key.public_key())

    @property
    def public(self) -> PublicKeys:
        return PublicKeys([self._key.public_key()])

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class PublicKeys:
    """What signatures are checked with: several where keys have been replaced."""

    def __init__(self, keys: list[Ed25519PublicKey]) -> None:
        self._keys = {_key_id(key): key for key in keys}

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def __str__(self) -> str:
        return " or ".join(self._keys)

    def verify(self, key_id: str, signature: bytes, message: bytes) -> bool:
        """Whether the key of that id made this signature of this message."""
        try:
            self._keys[key_id].verify(signature, message)
        except (InvalidSignature, KeyError):
            return False
        return True


def make_key(path: Path) -> Path:
    """Makes a private key for its owner alone and, beside it, its public key; returns where.

    Raises ConfigError, and leaves nothing, if one of the files is there or cannot be written.
    """
    public = public_path(path)
    if public.exists():
        raise ConfigError(f"{public}: exists: name another file, or move this key pair away")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(path, secret, 0o600)
    try:
        _write(public, _pem(key.public_key()), 0o644)
    except ConfigError:
        path.unlink()
        raise
    return public


def public_path(path: Path) -> Path:
    """Where the public key of a private key is."""
    return path.with_name(f"{path.name}.pub")


def load_private_key(path: Path) -> SigningKey:
    """Raises ConfigError for a file that is missing, readable by others, or no Ed25519 key."""
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"signing key {path}: cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise ConfigError(f"signing key {path}: others may read it: chmod 600 {path}")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"signing key {path}: not a private key without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"signing key {path}: not an Ed25519 key")
    return SigningKey(key)


def load_public_keys(path: Path) -> PublicKeys:
    """The keys of a file, which may hold several. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"public key {path}: cannot be read: {error.strerror}") from error
    blocks = [block + _END for block in content.split(_END)[:-1]]
    try:
        keys = [load_pem_public_key(block) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"public key {path}: not a public key in PEM form") from error
    ours = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not ours or len(ours) < len(keys):
        raise ConfigError(f"public key {path}: not an Ed25519 public key in PEM form")
    return PublicKeys(ours)


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        create(path, content, mode)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists: a key is never overwritten") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _key_id(key: Ed25519PublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]
