"""TLS to NATS servers: whom to trust, and in one line what is wrong."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import nats.errors

from pbscast.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CA_VARIABLE: Final = "PBSCAST_CA"
_EXPIRED: Final = 10
_OTHER_NAMES: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, …_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH."""


class PlainServerError(nats.errors.Error):
    """A server that was to speak TLS does not."""

    def __str__(self) -> str:
        return "it speaks no TLS"


def trust_file(path: Path) -> ssl.SSLContext:
    """Return a context that trusts the authorities in a file alone.

    Raises ConfigError if it cannot be read or holds none.
    """
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"{path} holds no certificate of an authority (PEM)") from error
    except OSError as error:
        raise ConfigError(f"cannot read the certificates in {path}: {error.strerror}") from error


def trust_text(authorities: str, where: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in a text alone; ``where`` it came from."""
    try:
        return ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{where} gave no certificate of an authority (PEM)") from error


def explain(error: Exception, place: str) -> ConfigError | None:
    """Return our error if this one says that TLS cannot be spoken as it is set."""
    if isinstance(error, PlainServerError):
        return ConfigError(f"{place} speaks no TLS: is tls:// right, and is it the right port?")
    if not isinstance(error, ssl.SSLError):
        return None
    if not isinstance(error, ssl.SSLCertVerificationError):
        return ConfigError(f"cannot speak TLS with {place}: {error.reason or error}")
    if error.verify_code in _OTHER_NAMES:
        return ConfigError(
            f"the certificate of {place} is for other names: give the server's as it stands there"
        )
    if error.verify_code == _EXPIRED:
        return ConfigError(f"the certificate of {place} has expired: ask who runs pbscast")
    return ConfigError(
        f"the certificate of {place} is not from an authority that is trusted here:"
        f" set {CA_VARIABLE} to the file of the one that made it"
    )
