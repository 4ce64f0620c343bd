"""Which workers live, and so which of them does what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from pbscast_fanout.connection import Connection

WORKERS: Final = "PBS_WORKERS"


class Membership:
    """A worker's view of all workers: each thing is one worker's, the same for all that see alike.

    Only who should do a thing is said here. Views differ for a while (5 s after a crash), so what
    must not be done by two needs a fence besides.
    """

    def __init__(self, connection: Connection, name: str, *, replicas: int = 1) -> None:
        self._connection = connection
        self._replicas = replicas
        self._name = name

    async def run(self) -> NoReturn:
        """Be one of the workers, and see the others, until cancelled; then be none at once."""
        raise NotImplementedError

    @property
    def workers(self) -> frozenset[str]:
        """Those that live, this one included once it is seen; empty while nothing is known."""
        raise NotImplementedError

    @property
    def is_known(self) -> bool:
        """Whether the view is of now, and this worker in it."""
        raise NotImplementedError

    def mine(self, thing: str) -> bool:
        """Whether a site (or anything else) is this worker's; True for all while nothing is known.

        Rendezvous hashing: a worker that comes or goes moves nothing between the others.
        """
        raise NotImplementedError

    async def known(self, seconds: float) -> None:
        """Wait until something is known, but not longer."""
        raise NotImplementedError

    async def wait_changed(self) -> None:
        """Wait until `workers` or `is_known` is another."""
        raise NotImplementedError
