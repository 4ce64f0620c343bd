"""Who has an account without having been issued anything, and who stays out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbscast.errors import UsageError
from pbscast_deploy.auth.accounts import Closed, why_closed
from pbscast_deploy.auth.issuing import principal_of
from pbscast_deploy.auth.keys import keyless_account
from pbscast_deploy.auth.layout import Principal
from pbscast_fanout.askers import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pbscast_deploy.auth.accounts import Accounts, Claims


@dataclass(slots=True)
class Enrolment:
    """Whom an enrolment concerned, by name."""

    made: list[str] = field(default_factory=list)
    """The account is new, or open again."""
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Was not named, so that the account is closed now."""
    barred: list[str] = field(default_factory=list)
    """Was named, and stays out."""


def enrol(accounts: Accounts, names: Iterable[str], *, prune: bool) -> Enrolment:
    """See to it that users of these names have an account; with ``prune``, that no others do.

    Raises UsageError, and changes nothing, for what is no name, and if more than half of the users
    (and more than one) would lose theirs.
    """
    wanted = {user.account: user for user in (Principal(name, Role.USER) for name in names)}
    known = {account: claims for account, claims in accounts.all().items() if _is_user(claims)}
    present = [account for account, claims in known.items() if why_closed(claims) is None]
    leaving = [account for account in present if account not in wanted] if prune else []
    if len(leaving) > max(1, len(present) / 2):
        raise UsageError(
            f"--prune would close {len(leaving)} of {len(present)} accounts: is the list whole?"
            " Close some with pbscastd auth bar if it is"
        )
    done = Enrolment()
    for _ in accounts.provide(_entering(wanted, known, done)):
        pass
    for account in leaving:
        user = _known(known[account])
        accounts.close(user, Closed.LEFT)
        done.left.append(user.name)
    return done


def _entering(
    wanted: dict[str, Principal], known: dict[str, Claims], done: Enrolment
) -> Iterator[Principal]:
    for account, user in wanted.items():
        claims = known.get(account)
        why = None if claims is None else why_closed(claims)
        if why is Closed.BARRED:
            done.barred.append(user.name)
            continue
        if claims is not None and why is None:
            done.kept.append(user.name)
            continue
        done.made.append(user.name)
        # Somebody to whom certain sites were given keeps to them.
        yield user if claims is None else _known(claims)


def bar(accounts: Accounts, name: str) -> list[str]:
    """Close all accounts of a name, in whatever role, for ``enrol`` and ``issue`` as well.

    Return their tokens.
    """
    people = {user.account: user for user in (Principal(name, Role.USER), *called(accounts, name))}
    return [accounts.close(person, Closed.BARRED) for person in people.values()]


def lift(accounts: Accounts, name: str) -> list[str]:
    """Open the accounts of a name that were barred; return their tokens."""
    return [token for _, token in accounts.provide(barred(accounts, name))]


def barred(accounts: Accounts, name: str) -> list[Principal]:
    """Return the people of a name whose accounts are closed until an administrator opens them."""
    people = called(accounts, name)
    return [one for one in people if why_closed(accounts.present(one.account)) is Closed.BARRED]


def called(accounts: Accounts, name: str) -> list[Principal]:
    """Return the people of a name who have an account: one for each role."""
    roles = (keyless_account(role, name) for role in Role)
    found = (accounts.claims(account) for account in roles)
    return [_known(claims) for claims in found if claims is not None]


def _is_user(claims: Claims) -> bool:
    person = principal_of(claims)
    return person is not None and person.role is Role.USER


def _known(claims: Claims) -> Principal:
    person = principal_of(claims)
    assert person is not None  # noqa: S101 - looked at before
    return person
