"""What an audit says of a site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is not as it has to be."""

    site: str
    position: int
    """The event that fails; of a row beside the log, the last event that it should tell of."""
    text: str
    """What it means, in a sentence."""
    about: str = ""
    """What is known of the event, or of the object whose row fails."""

    def __str__(self) -> str:
        """One line, whatever somebody wrote into the rows that it quotes."""
        about = f" ({self.about})" if self.about else ""
        line = f"{self.site}:{self.position}{about}: {self.text}"
        return "".join(letter if letter.isprintable() else "?" for letter in line)


UNREADABLE: Final = (TypeError, AttributeError, KeyError, ValueError)
"""What reading a row raises that pbscast cannot have written."""


class Broken(Exception):  # noqa: N818 - a finding on its way up, not an error of the program
    """Ends the audit of a site at a finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass(slots=True)
class Tale:
    """What the events of a site told."""

    finding: Finding | None = None
    incarnations: int = 0
    thinned: int = 0
    """Archived events whose payload was not kept: their leaves are in the chain, nothing more."""
    oddities: dict[str, int] = field(default_factory=dict)
    """Steps between states that no documented life of a PBS job has, and how often."""
    first_oddity: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit found out about one site."""

    site: str
    position: int
    """Of the last event, by the site's row."""
    chained_after: int
    """Events up to here were logged before there was a chain: no digest covers them."""
    checkpoints: int
    """Signed ones, whether stored or exported."""
    signed_up_to: int
    """Position of the last of them."""
    signed: int
    """When the last of them was signed, in microseconds since 1970-01-01 UTC; 0: none was."""
    is_signature_checked: bool
    """Whether there was a public key to check the signatures with."""
    tale: Tale
    finding: Finding | None

    @property
    def is_clean(self) -> bool:
        return self.finding is None
