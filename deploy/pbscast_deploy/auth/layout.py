"""What each role may do, as NATS accounts.

The log's streams, services and workers live in the account PBS. **Every person has an account of
his own**, whose list of imports is all that joins it to PBS. Whatever a person sends to, and
wherever he has an answer sent to, therefore stays among his own connections, unless an import takes
it over; and each import names him. JetStream's API is imported to pull and to acknowledge and for
nothing else: who may create a consumer may have it deliver to any subject of the account PBS.

A request arrives as ``pbscast.v1.as.<role>.<sites>.<name>.<service>``; what stands before the
service was put there by the server, and can be relied upon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pbscast.consumer import STREAM
from pbscast.deliveries import DELIVERIES, LIVE
from pbscast.errors import UsageError
from pbscast.events import Kind
from pbscast.subjects import ALL, ROOT, encode_token
from pbscast_deploy.auth.keys import keyless_account
from pbscast_fanout.askers import AS, SERVICES, SLOTS, Asker, Role
from pbscast_fanout.settling import SETTLE

if TYPE_CHECKING:
    from collections.abc import Mapping

DOMAIN: Final = "hub"
"""The JetStream domain of the servers that hold the streams. Pulls name it, unseen by who pulls, so
that they reach the hub from a site's leaf node as well."""

_PULL: Final = "$JS.API.CONSUMER.MSG.NEXT"
_HUB_PULL: Final = f"$JS.{DOMAIN}.API.CONSUMER.MSG.NEXT"
_ACK: Final = f"$JS.ACK.{DELIVERIES}"
_MANY_ANSWERS: Final = {"response_type": "Stream", "response_threshold": 30 * 10**9}
"""Of a pull: a server remembers each until nothing has come for so many nanoseconds, 0.8 kB. A pull
that waits for longer has to ask for heartbeats."""
_MOST_CONNECTIONS: Final = 256
_MOST_SUBSCRIPTIONS: Final = 512
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_UNLIMITED: Final = -1
_STREAMS: Final = (STREAM, DELIVERIES)
_PUBLIC: Final = tuple(kind for kind in Kind if kind is not Kind.JOB)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """What sites have decided."""

    sites: Mapping[str, bool] = field(default_factory=dict)
    """Of each site whether users see everybody's jobs there. None: of every site, they do not."""

    def narrow(self, sites: tuple[str, ...]) -> frozenset[str]:
        """Return the sites that a user sees, given those that were named for him; none: every."""
        # Imports that overlap deliver twice: where one site is open, all have to be named.
        return frozenset(sites or self.sites)

    @property
    def open_sites(self) -> frozenset[str]:
        return frozenset(site for site, is_open in self.sites.items() if is_open)


def is_name(text: str) -> bool:
    """Whether a user can be called so."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is let in."""

    name: str
    role: Role
    sites: tuple[str, ...] = ()
    """None: all."""

    def __post_init__(self) -> None:
        """Raises UsageError for a name that no PBS user has, or sites that do not fit the role."""
        if not is_name(self.name):
            raise UsageError(
                f"{self.name!r} is no name: 1 to 64 of A-Z a-z 0-9 _ . -, not . or - first"
            )
        if self.role is Role.OPERATOR and not self.sites:
            raise UsageError(f"{self.name}: an operator is one of certain sites: name them")
        if self.role is Role.SERVICE and self.sites:
            raise UsageError(f"{self.name}: a service is one of all sites: name none")

    @property
    def account(self) -> str:
        """The id of his account. That of services is PBS, which has a key of its own."""
        return keyless_account(self.role, self.name)

    def asker(self, policy: Policy) -> Asker:
        """Return what the services are told of him."""
        if self.role is not Role.USER:
            return Asker(self.role, self.name, frozenset(self.sites))
        sites = policy.narrow(self.sites)
        return Asker(self.role, self.name, sites, policy.open_sites & sites)


def system_account(pbs: str) -> Json:
    """Return what the system account is; it may replace accounts, and see how servers are.

    And have the workers end what was made for somebody by rights that he has no more.
    """
    return _account(imports=[_service(pbs, SETTLE)], exports=[], keys=[], limits={})


def pbs_account(signer: str) -> Json:
    """Return what the account PBS is, and what others may import from it."""
    exports = [
        _export(f"{AS}.>", "service"),
        _export(SETTLE, "service"),
        *(_export(f"{_HUB_PULL}.{stream}.*", "service", **_MANY_ANSWERS) for stream in _STREAMS),
        _export(f"{_ACK}.>", "service"),
        _export(ALL, "stream"),
        _export(f"{LIVE}.>", "stream"),
    ]
    # Without a limit of its own an account may not use JetStream at all.
    storage = dict.fromkeys(
        ("mem_storage", "disk_storage", "streams", "consumer", "max_ack_pending"), _UNLIMITED
    )
    return _account(imports=[], exports=exports, keys=[signer], limits=storage)


def personal_account(principal: Principal, policy: Policy, pbs: str, signer: str) -> Json:
    """Return what the account of a person is. ``signer`` signs his tokens, of this role alone."""
    asker = principal.asker(policy)
    slots = [asker.slot(number) for number in range(1, SLOTS + 1)]
    imports = [
        _service(pbs, f"{asker.subject}.*", local=f"{SERVICES}.*"),
        *(_stream(pbs, subject) for subject in _readable(asker)),
        _stream(pbs, f"{LIVE}.*.{asker.pass_name}.*", local=f"{LIVE}.$1.$2"),
        *(
            _service(pbs, f"{_HUB_PULL}.{stream}.{slot}", local=f"{_PULL}.{stream}.{slot}")
            for stream in _STREAMS
            for slot in slots
        ),
        *(_service(pbs, f"{_ACK}.{slot}.>") for slot in slots),
    ]
    limits = {"conn": _MOST_CONNECTIONS, "subs": _MOST_SUBSCRIPTIONS, "leaf": 0, "exports": 0}
    return _account(
        imports=imports, exports=[], keys=[_scope(principal.role, signer)], limits=limits
    )


def asker_in(account: Json) -> Asker | None:
    """Return who asks by an account's imports; None for the accounts of nobody, and closed ones."""
    found = (Asker.parse(item["subject"]) for item in account["nats"].get("imports") or ())
    return next((asker for asker in found if asker is not None), None)


def closed_account() -> Json:
    """Return what the account of a person is who is not to come in: nobody can connect to it.

    A server that was away while an account was deleted would bring it back to the others; this one
    is newer than what it has.
    """
    return _account(imports=[], exports=[], keys=[], limits={"conn": 0, "leaf": 0, "exports": 0})


def _readable(asker: Asker) -> list[str]:
    """The subjects of plain events that somebody may see."""
    sites = sorted(asker.sites) or ["*"]
    if asker.role is not Role.USER:
        return [f"{ROOT}.{site}.>" for site in sites]
    return [f"{ROOT}.{site}.{item}" for site in sites for item in _of_a_user(asker, site)]


def _of_a_user(asker: Asker, site: str) -> list[str]:
    jobs = ">" if site in asker.open_sites else f"{encode_token(asker.name)}.>"
    return [f"{Kind.JOB}.{jobs}", *(f"{kind}.>" for kind in _PUBLIC), "mark"]


def _scope(role: Role, signer: str) -> Json:
    """What a signing key can give: a little more than is imported, so that refusals say so."""
    publish = [f"{SERVICES}.*", f"{_PULL}.*.*", f"{_ACK}.>"]
    subscribe = ["_INBOX.>", ALL, f"{LIVE}.>"]
    template = {
        "pub": {"allow": publish},
        "sub": {"allow": subscribe},
        "subs": _MOST_SUBSCRIPTIONS,
        "data": _UNLIMITED,
        "payload": _UNLIMITED,
    }
    return {"kind": "user_scope", "key": signer, "role": role.value, "template": template}


def _account(
    *, imports: list[Json], exports: list[Json], keys: list[Any], limits: dict[str, int]
) -> Json:
    unlimited = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _UNLIMITED
    )
    return {
        "type": "account",
        "imports": imports,
        "exports": exports,
        "signing_keys": keys,
        "limits": {**unlimited, "wildcards": True, **limits},
        "default_permissions": {"pub": {}, "sub": {}},
    }


def _export(subject: str, kind: str, **more: Any) -> Json:
    return {"name": subject, "subject": subject, "type": kind, **more}


def _service(account: str, subject: str, local: str | None = None) -> Json:
    return _import(account, subject, "service", local)


def _stream(account: str, subject: str, local: str | None = None) -> Json:
    return _import(account, subject, "stream", local)


def _import(account: str, subject: str, kind: str, local: str | None) -> Json:
    made = {"subject": subject, "account": account, "type": kind}
    return made if local is None else {**made, "local_subject": local}
