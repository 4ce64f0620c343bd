"""The directory from which all authority comes: keys, accounts, and what has been issued.

    keys/root.nk         the operator's, signs accounts; whoever has it has everything
    keys/<role>.nk       signs the credentials of that role, and of no other
    keys/pbs.nk          the account PBS; keys/system.nk, system.creds: the system account
    keys/ca.key          signs server certificates
    accounts/<id>.jwt    an account, revocations included
    issued/<key>.jwt     a credential that was issued, without its secret
    servers/<host>.json  a nats-server, and which accounts it has been told
    settled.json         of which accounts nothing is left that was made by rights of before
    sites.json           where users see everybody's jobs
    server/              what nats-server needs: copy it there

The directory is for its owner alone (0700, files 0600). What is no secret in
``server/`` may be read by everybody (0644), where it has been copied to.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from pbscast.errors import ConfigError, NotFoundError, UsageError
from pbscast.newfile import create
from pbscast.settings import redacted
from pbscast_deploy.auth import enrolment
from pbscast_deploy.auth.accounts import Accounts, Closed, decoded, read, replace, why_closed
from pbscast_deploy.auth.certificates import Certificates
from pbscast_deploy.auth.configuration import with_preload
from pbscast_deploy.auth.founding import OPERATOR, found
from pbscast_deploy.auth.issuing import (
    EVERYBODY,
    Credential,
    credential_of,
    revocations,
    sign,
)
from pbscast_deploy.auth.keys import PRIVATE, PUBLIC
from pbscast_deploy.auth.layout import Policy, Principal, asker_in, is_name
from pbscast_deploy.auth.servers import Servers
from pbscast_deploy.auth.settled import Settled
from pbscast_deploy.auth.tokens import decode
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path

    from pbscast_deploy.auth.accounts import Claims
    from pbscast_deploy.auth.enrolment import Enrolment
    from pbscast_deploy.auth.servers import Server
    from pbscast_fanout.askers import Asker


@dataclass(frozen=True, slots=True)
class Issued:
    """What issuing a credential gives."""

    content: str
    """The credentials file: secret."""
    account: str
    """The token of the account, which the servers have to know."""
    credential: Credential


class Realm:
    """One operator and all that it vouches for. Every method raises ConfigError for damaged files.

    Several processes may work on the same directory.
    """

    def __init__(self, directory: Path) -> None:
        """Raises ConfigError where ``init`` has not been."""
        if not (directory / "keys" / f"{OPERATOR}.nk").exists():
            raise ConfigError(f"{directory}: holds no authority: pbscastd auth init {directory}")
        self.directory = directory
        self._accounts = Accounts(directory)
        self._servers = Servers(directory / "servers")
        self._settled = Settled(directory / "settled.json")

    @classmethod
    def init(cls, directory: Path, hosts: Sequence[str]) -> Realm:
        """Make the directory, with certificates for these hosts.

        Raises ConfigError, and leaves what is there, if it exists or cannot be made.
        """
        found(directory, hosts)
        return cls(directory)

    @property
    def system_credentials(self) -> Path:
        """The credentials with which accounts are told to the servers."""
        return self.directory / "keys" / "system.creds"

    @property
    def authority(self) -> Path:
        """The certificates that the servers' own are checked with."""
        return self.directory / "server" / "tls" / "ca.pem"

    @property
    def policy(self) -> Policy:
        """Where users see everybody's jobs."""
        return self._accounts.policy

    def decide(self, policy: Policy) -> None:
        """Change where users see everybody's jobs, in each user's account."""
        with self._accounts.locked():
            self._accounts.policy = policy
            self._accounts.refresh()

    def accounts(self) -> dict[str, str]:
        """Return the token of every account, by its id."""
        return self._accounts.tokens()

    @property
    def configuration(self) -> Path:
        """What the servers are told in a file: whom they trust, and the first accounts."""
        return self.directory / "server" / "auth.conf"

    def renew_configuration(self) -> bool:
        """Put the first accounts into it as they are now; whether they were others."""
        with self._accounts.locked():
            before = read(self.configuration)
            try:
                after = with_preload(before, self._accounts.preload())
            except ConfigError as error:
                raise ConfigError(f"{self.configuration}: {error}") from error
            if after != before:
                replace(self.configuration, after.encode() + b"\n", PUBLIC)
        return after != before

    def servers(self) -> list[Server]:
        """Return the nats-servers that have been told something, by name."""
        return self._servers.all()

    def lacking(self, server: Server) -> dict[str, str]:
        """Return the tokens, by account, that a server has not been told."""
        return server.lacks(self.accounts())

    def server(self, url: str) -> Server:
        """Return the server of a URL, known or not."""
        return self._servers.get(url)

    def note_told(self, server: str, tokens: Iterable[str]) -> None:
        """Remember that a server knows these tokens of accounts."""
        with self._accounts.locked():
            self._servers.note(server, tokens, self.accounts().values())

    def unsettled(self) -> dict[str, Asker]:
        """Return who may come in and had rights of which a worker has to end something.

        By account.
        """
        left = self._settled.left()
        tokens = {account: one for account, one in self.accounts().items() if account in left}
        found = {account: asker_in(decode(token)) for account, token in tokens.items()}
        return {account: asker for account, asker in found.items() if asker is not None}

    def note_changed(self, accounts: Iterable[str], *, even_new: bool = False) -> None:
        """Remember that a worker has to end what was made for these by rights of before.

        Of accounts that no server has been told before there is nothing, but with `even_new`.
        """
        with self._accounts.locked():
            if not self._settled.is_kept and any(one.told for one in self.servers()):
                self._settled.settle(self.accounts())  # a release before told them
            (self._settled.unsettle if even_new else self._settled.change)(accounts)

    def note_settled(self, accounts: Iterable[str]) -> None:
        """Remember that one has."""
        with self._accounts.locked():
            self._settled.settle(accounts)

    def forget(self, server: str) -> None:
        """Tell a server nothing any more. Raises NotFoundError if it is not known."""
        with self._accounts.locked():
            if not self._servers.forget(server):
                raise NotFoundError(f"{redacted(server)} is not known: see pbscastd auth list")

    def issue(self, principal: Principal, ttl: timedelta) -> Issued:
        """Make a credential that expires after ``ttl``, and the account if it is new.

        If the sites are others than before, the account is changed, for all credentials of it.
        Raises UsageError for somebody who is barred.
        """
        with self._accounts.locked():
            if enrolment.barred(self._accounts, principal.name):
                raise UsageError(
                    f"{principal.name} is barred: pbscastd auth bar --lift {principal.name}"
                )
            ((account, token),) = self._accounts.provide([principal])
            claims = decode(token)
            # What is revoked for everybody is so up to a second, that one included.
            issued = max(int(time()), revocations(claims).get(EVERYBODY, 0) + 1)
            expires = issued + int(ttl.total_seconds())
            key = self._accounts.key(principal.role)
            signed = sign(principal, account, key, issued, expires)
            self._record(signed.key, signed.token)
        return Issued(signed.content, token, credential_of(decode(signed.token), claims))

    def sites_of(self, name: str, role: Role) -> tuple[str, ...] | None:
        """Return the sites that were given to somebody, none for all; None if he has no account."""
        people = enrolment.called(self._accounts, name)
        return next((one.sites for one in people if one.role is role), None)

    def revoke(self, who: str) -> list[str]:
        """Revoke a credential by its public key, or all of a name; return the changed accounts.

        Raises NotFoundError if there is nothing of the kind.
        """
        with self._accounts.locked():
            doomed = self._doomed(who)
            if not doomed:
                raise NotFoundError(f"nothing was issued to {who}: see pbscastd auth list")
            return [self._accounts.revoke(account, keys) for account, keys in doomed.items()]

    def rekey(self, role: Role) -> list[str]:
        """Give a role another key; what the one before signed is void. Return the accounts."""
        with self._accounts.locked():
            self._accounts.rekey(role)
        self._accounts = Accounts(self.directory)
        return self.refresh()

    def refresh(self) -> list[str]:
        """Give every account what this release and the sites give its role; return all accounts."""
        with self._accounts.locked():
            self._accounts.refresh()
            return list(self.accounts().values())

    def enrol(self, names: Iterable[str], *, prune: bool = False) -> Enrolment:
        """See to it that users of these names have an account; with ``prune``, that no others do.

        Safe to repeat. Raises UsageError, and changes nothing, for what is no name, and if more
        than half of the users would lose theirs.
        """
        with self._accounts.locked():
            return enrolment.enrol(self._accounts, names, prune=prune)

    def bar(self, name: str) -> list[str]:
        """Keep a person out until ``lift``, whatever is issued; return the changed accounts.

        Raises UsageError for what is no name.
        """
        with self._accounts.locked():
            return enrolment.bar(self._accounts, name)

    def lift(self, name: str) -> list[str]:
        """Let a person in again who was barred; what was issued before stays revoked.

        Raises NotFoundError for one who is not barred.
        """
        with self._accounts.locked():
            lifted = enrolment.lift(self._accounts, name)
        if not lifted:
            raise NotFoundError(f"{name} is not barred")
        return lifted

    def barred(self) -> list[str]:
        """Return the names that are kept out."""
        claims = [one for one in self._accounts.all().values() if why_closed(one) is Closed.BARRED]
        return sorted({one["name"] for one in claims})

    @property
    def certificates(self) -> Certificates:
        """What is in server/tls, and the authority's key."""
        keys, tls = self.directory / "keys", self.directory / "server" / "tls"
        return Certificates(
            authority=_bytes(self.authority),
            authority_key=_bytes(keys / "ca.key"),
            server=_bytes(tls / "server.pem"),
            server_key=_bytes(tls / "server.key"),
        )

    def replace_certificates(self, new: Certificates) -> None:
        """Put others in their place."""
        keys, tls = self.directory / "keys", self.directory / "server" / "tls"
        with self._accounts.locked():
            replace(keys / "ca.key", new.authority_key)
            replace(self.authority, new.authority, PUBLIC)
            replace(tls / "server.key", new.server_key)
            replace(tls / "server.pem", new.server, PUBLIC)

    def issued(self) -> list[Credential]:
        """Return what has been issued here, by name, then by time."""
        return sorted(self._issued(), key=lambda one: (one.principal.name, one.issued))

    def _issued(self) -> Iterator[Credential]:
        accounts: dict[str, Claims] = {}
        for path in (self.directory / "issued").glob("*.jwt"):
            claims = decoded(path)
            account = claims["nats"]["issuer_account"]
            if account not in accounts:
                accounts[account] = self._accounts.present(account)
            yield credential_of(claims, accounts[account])

    def _doomed(self, who: str) -> dict[str, list[str]]:
        """By account what has to be revoked in it.

        Of a person all that was ever issued, whoever did; services share an account.
        """
        doomed: dict[str, list[str]] = {}
        for one in self._issued():
            is_service = one.principal.role is Role.SERVICE
            if who == one.key or (who == one.principal.name and is_service):
                doomed.setdefault(one.account, []).append(one.key)
        if is_name(who):
            people = enrolment.called(self._accounts, who)
            doomed.update((person.account, [EVERYBODY]) for person in people)
        return doomed

    def _record(self, key: str, token: str) -> None:
        path = self.directory / "issued" / f"{key}.jwt"
        try:
            create(path, token.encode(), PRIVATE)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
