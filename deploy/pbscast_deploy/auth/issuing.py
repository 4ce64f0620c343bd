"""Credentials: what says who somebody is, signed with the key of his role. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pbscast.errors import ConfigError
from pbscast_deploy.auth.keys import Key, Kind
from pbscast_deploy.auth.layout import Principal
from pbscast_deploy.auth.tokens import credentials, encode
from pbscast_fanout.askers import Role

EVERYBODY: Final = "*"
"""What is revoked in place of a key where all of an account is."""

_ROLE_TAG: Final = "role:"
_SITE_TAG: Final = "site:"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that was issued."""

    key: str
    """Its public key, by which it can be revoked."""
    principal: Principal
    account: str
    issued: datetime
    expires: datetime
    is_revoked: bool

    @property
    def state(self) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.is_revoked:
            return "revoked"
        return "expired" if self.expires <= datetime.now(UTC) else "valid"


@dataclass(frozen=True, slots=True)
class Signed:
    """A credential just made."""

    content: str
    """The credentials file: secret."""
    key: str
    """The public key."""
    token: str


def sign(principal: Principal, account: str, signer: Key, issued: int, expires: int) -> Signed:
    """Make a key and a credential for it, by the key of the principal's role.

    The moments are in seconds since 1970.
    """
    key = Key.make(Kind.USER)
    claims = {"sub": key.public, "name": principal.name, "iat": issued, "exp": expires}
    token = encode({**claims, "nats": _user(principal, account)}, signer)
    return Signed(credentials(token, key, principal.name), key.public, token)


def _user(principal: Principal, account: str) -> dict[str, Any]:
    nats: dict[str, Any] = {
        "type": "user",
        "issuer_account": account,
        "tags": tags_of(principal),
    }
    if principal.role is Role.SERVICE:
        return {**nats, "subs": -1, "data": -1, "payload": -1}
    # A token with limits of its own is refused where the key that signs has a scope.
    return nats


def tags_of(principal: Principal) -> list[str]:
    """Return how a token says whom it is for."""
    return [f"{_ROLE_TAG}{principal.role}", *(f"{_SITE_TAG}{site}" for site in principal.sites)]


def principal_of(claims: dict[str, Any]) -> Principal | None:
    """Return whom a token is for; None for the accounts of nobody."""
    tags: list[str] = claims["nats"].get("tags", [])
    roles = [tag.removeprefix(_ROLE_TAG) for tag in tags if tag.startswith(_ROLE_TAG)]
    sites = (tag.removeprefix(_SITE_TAG) for tag in tags if tag.startswith(_SITE_TAG))
    return Principal(claims["name"], Role(roles[0]), tuple(sites)) if roles else None


def credential_of(claims: dict[str, Any], account: dict[str, Any]) -> Credential:
    """Return what a credential is worth now: it has its account's sites. Raises ConfigError."""
    principal = principal_of(account) or principal_of(claims)
    if principal is None:
        raise ConfigError(f"the credential {claims['sub']} was not issued by pbscastd")
    principal = replace(principal, name=claims["name"])
    revoked = revocations(account)
    until = max(revoked.get(claims["sub"], 0), revoked.get(EVERYBODY, 0))
    return Credential(
        key=claims["sub"],
        principal=principal,
        account=account["sub"],
        issued=datetime.fromtimestamp(claims["iat"], UTC),
        expires=datetime.fromtimestamp(claims["exp"], UTC),
        is_revoked=claims["iat"] <= until,
    )


def revocations(account: dict[str, Any]) -> dict[str, int]:
    """Return what is revoked in an account: by key, all that was issued up to that second."""
    return dict(account["nats"].get("revocations", {}))
