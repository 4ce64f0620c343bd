"""Whose accounts have changed, and no worker has ended yet what was made by rights of before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pbscast.errors import ConfigError
from pbscast_deploy.auth.accounts import read, replace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Settled:
    """The accounts that servers know, in a file. Every method raises ConfigError if it is damaged.

    What changes it is called while the accounts are locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_kept(self) -> bool:
        """Whether there is such a file."""
        return self._path.exists()

    def left(self) -> set[str]:
        """Return the accounts of which something is left that was made by rights of before."""
        return {account for account, is_settled in self._all().items() if not is_settled}

    def change(self, accounts: Iterable[str]) -> None:
        """Note that servers are told of these; of one that is new there is nothing to settle."""
        before = self._all()
        self._keep({**before, **{account: account not in before for account in accounts}})

    def unsettle(self, accounts: Iterable[str]) -> None:
        """Note that something may be left, of new ones as well."""
        self._keep({**self._all(), **dict.fromkeys(accounts, False)})

    def settle(self, accounts: Iterable[str]) -> None:
        """Note that nothing is left."""
        self._keep({**self._all(), **dict.fromkeys(accounts, True)})

    def _all(self) -> dict[str, bool]:
        if not self.is_kept:
            return {}
        try:
            return {account: bool(value) for account, value in json.loads(read(self._path)).items()}
        except (ValueError, AttributeError) as error:
            msg = f"{self._path}: not what it was: remove it, then pbscastd auth push --settle"
            raise ConfigError(msg) from error

    def _keep(self, accounts: dict[str, bool]) -> None:
        replace(self._path, json.dumps(accounts, sort_keys=True).encode())
