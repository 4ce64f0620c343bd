"""A certificate authority of our own and the server's certificate, for a first start with TLS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pbscast.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_AUTHORITY_DAYS: Final = 3650
_SERVER_DAYS: Final = 397
"""Longer ones are refused by some TLS libraries."""
_SKEW: Final = timedelta(minutes=5)
_ROUTE: Final = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
"""In a cluster servers are clients of one another."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files; the keys are secret."""

    authority: bytes
    authority_key: bytes
    server: bytes
    server_key: bytes


def make_certificates(hosts: Sequence[str]) -> Certificates:
    """Make an authority, and by it a certificate for these host names and addresses.

    Raises UsageError for a name that cannot stand in a certificate.
    """
    authority_key, server_key = generate(SECP256R1()), generate(SECP256R1())
    authority = _authority(authority_key)
    server = _server(hosts, server_key, authority, authority_key)
    return Certificates(
        authority=authority.public_bytes(Encoding.PEM),
        authority_key=_pem(authority_key),
        server=server.public_bytes(Encoding.PEM),
        server_key=_pem(server_key),
    )


def renewed(present: Certificates, hosts: Sequence[str]) -> Certificates:
    """Make another certificate for a server, with a key of its own, by the same authority.

    The authority's own is prolonged if it ended first; who has the one before can go on with it
    until that ends, for the key is the same. Raises ConfigError if these are no PEM files of ours,
    UsageError for what is no host.
    """
    key, now = _key(present.authority_key), datetime.now(UTC)
    old = _certificate(present.authority)
    is_enough = old.not_valid_after_utc > now + timedelta(days=_SERVER_DAYS)
    issuer = old if is_enough else _authority(key)
    server_key = generate(SECP256R1())
    return Certificates(
        authority=issuer.public_bytes(Encoding.PEM),
        authority_key=present.authority_key,
        server=_server(hosts, server_key, issuer, key).public_bytes(Encoding.PEM),
        server_key=_pem(server_key),
    )


def hosts_of(server: bytes) -> list[str]:
    """Return the names and addresses that a certificate is for. Raises ConfigError."""
    try:
        names = _certificate(server).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound as error:
        raise ConfigError("the certificate is for no host: name some with --host") from error
    return [str(name.value) for name in names.value]


def end_of(certificate: bytes) -> datetime:
    """Return until when a certificate is valid. Raises ConfigError."""
    return _certificate(certificate).not_valid_after_utc


def _certificate(content: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise ConfigError("a certificate in server/tls is no PEM file") from error


def _key(content: bytes) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError("keys/ca.key is no key") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigError("keys/ca.key is not the key that init made")
    return key


def _authority(key: EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("pbscast")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    built = _builder(name, name, key, _AUTHORITY_DAYS)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return built.add_extension(usage, critical=True).sign(key, SHA256())


def _server(
    hosts: Sequence[str],
    key: EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    built = _builder(_name("pbscast NATS"), authority.subject, key, _SERVER_DAYS)
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    built = built.add_extension(x509.ExtendedKeyUsage(_ROUTE), critical=False)
    built = built.add_extension(issuer, critical=False)
    names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    return built.add_extension(names, critical=False).sign(authority_key, SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(identifier, critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise UsageError(f"{host!r} is no host name") from error


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
