"""Every error that pbscast raises.

    PbscastError
    ├── UsageError               the caller's input is wrong: mend it and call again
    │   ├── InvalidJobId
    │   └── ConfigError
    ├── DecodeError              bytes that are not what they claim to be
    ├── UnavailableError         a server cannot be reached or answered too late (transient)
    ├── AccessDeniedError        a server refused our credentials or our rights
    ├── UnsupportedError         a server or schema of a version we do not serve
    ├── NotFoundError            there is no such object, site or event
    │   └── GoneError            the subscription has ended: subscribe anew
    └── ConflictError            somebody else did what we were about to do
        └── FencedError          another worker holds the site now: stop writing

A driver's own exception is always the ``__cause__``.
"""

from __future__ import annotations


class PbscastError(Exception):
    """Root of the tree. ``str()`` is one line: what, where, what to do. It never holds a secret."""

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later without anybody changing anything."""
        return False


class UsageError(PbscastError, ValueError):
    """The caller's input is wrong."""


class InvalidJobId(UsageError):  # noqa: N818 - says all of it
    """The text is not a PBS job identifier (``N.server``, ``N[].server``, ``N[i].server``)."""


class ConfigError(UsageError):
    """A setting is missing or malformed; the message names the file and the key."""


class DecodeError(PbscastError):
    """A message, row or file line does not have the promised form; the message says where."""


class UnavailableError(PbscastError):
    """A server cannot be reached, went away or did not answer in time."""

    @property
    def transient(self) -> bool:
        return True


class AccessDeniedError(PbscastError):
    """A server refused the credentials, or the role lacks a right."""


class UnsupportedError(PbscastError):
    """A server, schema or format of a version this release does not serve."""


class NotFoundError(PbscastError):
    """There is no such object, site or event."""


class GoneError(NotFoundError):
    """The subscription is no more: its lease ran out, or somebody has ended it."""


class ConflictError(PbscastError):
    """Somebody else has already done what was about to be done."""


class FencedError(ConflictError):
    """Another worker has taken the site over; the caller must stop writing for it."""
