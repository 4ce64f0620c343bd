"""What `source check` says: one finding per thing looked at, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was looked at in one datastore, in the order in which to read it."""

    place: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        found = {finding.verdict for finding in self.findings}
        return next(v for v in (Verdict.FAIL, Verdict.WARN, Verdict.OK) if v in found or v == "ok")

    def lines(self) -> list[str]:
        """The report as text, a line for each finding and one for each advice."""
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.verdict.upper():4}  {finding.subject}: {finding.text}")
            if finding.advice:
                lines.append(f"      {finding.advice}")
        return lines


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Verdict.OK, text)


def warn(subject: str, text: str, advice: str) -> Finding:
    """Works, but somebody should look."""
    return Finding(subject, Verdict.WARN, text, advice)


def fail(subject: str, text: str, advice: str) -> Finding:
    """Changes are not captured, or cannot be read."""
    return Finding(subject, Verdict.FAIL, text, advice)
