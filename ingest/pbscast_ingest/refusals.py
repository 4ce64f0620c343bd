"""What the log refuses for what it says: told in a form that it takes, so that it stops no site.

No such event is known. Should there be one (a limit of an index, of JSON, of a release to come),
it would be tried again for ever and nothing after it would come. So a refusal is counted. Three in
a row at one position, and the site goes on row by row, to see which it is; the refused events are
then written with what may offend cut, and where that is refused as well with hardly more than
their header. Where even that is refused it is not for what they say: all begins anew.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import structlog

from pbscast.errors import (
    AccessDeniedError,
    ConfigError,
    FencedError,
    PbscastError,
    UnavailableError,
    UnsupportedError,
)
from pbscast.events import ChangePayload, GapPayload, Provenance, ResyncPayload
from pbscast_ingest import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbscast.events import Payload
    from pbscast_store.drafts import Draft
    from pbscast_store.records import ObjectState

TRIES: Final = 3
"""Refusals in a row of one append before it is looked for what offends."""

CAREFUL: Final = 3000
"""Appends of one row each, after the last refusal: as many as a page may hold."""

MOST_CHARACTERS: Final = 4096
"""Of a text in an event that was refused."""

MOST_TEXTS: Final = 500
"""Of one kind (attributes, columns, names) in such an event."""

HEAVY: Final = 64 << 20
"""Characters in one append from which on the log's server may fail for that."""

NOTE: Final = "pbscast.refused"
"""The attribute in which such an event says what became of it."""

_INT4: Final = range(-(1 << 31), 1 << 31)

_log = structlog.get_logger(__name__)


class Refusals:
    """The refusals of one site, through all sessions and leases of its worker."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._position = -1
        self._times = 0
        self._careful = 0
        self._levels: dict[tuple[object, ...], int] = {}
        self._why = ""

    @property
    def is_careful(self) -> bool:
        """Whether no more than one row is to be in an append, and none before it unconfirmed."""
        return self._careful > 0

    def temper(self, drafts: Sequence[Draft]) -> Sequence[Draft]:
        """Return the drafts with those that were refused in a form that the log may take."""
        if not self._levels:
            return drafts
        return [_FORMS[self._levels.get(_key(draft), 0)](draft, self._why) for draft in drafts]

    def refuse(self, error: BaseException, drafts: Sequence[Draft], position: int) -> None:
        """Take note that an append failed, of these drafts as they came, after that position."""
        if not _is_about_content(error, drafts):
            return
        self._why = str(error) or type(error).__name__
        if not self._careful:
            self._times = self._times + 1 if position == self._position else 1
            self._position = position
            self._careful = CAREFUL if self._times >= TRIES else 0
            return
        self._careful = CAREFUL
        for draft in drafts:
            level = self._levels[_key(draft)] = self._levels.get(_key(draft), 0) + 1
            if level >= len(_FORMS):
                self._forget()
                return

    def is_told(self, draft: Draft, state: ObjectState) -> bool:
        """Whether the log has of a change what it takes of it."""
        (form,) = self.temper([draft])
        if form is draft or not isinstance(payload := form.payload, ChangePayload):
            return False
        told = (payload.state, payload.substate) == (state.state, state.substate)
        return told and all(
            state.attributes.get(name) == value
            for name, value in payload.changed.items()
            if name != NOTE
        )

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Take note that an append was written."""
        if not self._careful or not drafts:
            return
        for draft in drafts:
            if _key(draft) in self._levels:
                self._tell(draft)
        self._careful -= 1
        if not self._careful:
            self._forget()

    def _tell(self, draft: Draft) -> None:
        metrics.REFUSED.labels(self._site).inc()
        _log.bind(site=self._site, kind=draft.kind.value, id=draft.id).error(
            "event logged in part, the log refused it", name=draft.event.value, error=self._why
        )

    def _forget(self) -> None:
        self._levels.clear()
        self._careful = self._times = 0


def _key(draft: Draft) -> tuple[object, ...]:
    """What tells a draft when it comes again: a resync makes it anew, maybe as another event."""
    event = None if draft.provenance is Provenance.RESYNC else draft.event
    return (draft.kind, draft.id, event, draft.provenance)


def _is_about_content(error: BaseException, drafts: Sequence[Draft]) -> bool:
    if isinstance(error, FencedError):
        return False
    if isinstance(error, UnavailableError):
        return sum(_weigh(draft.payload) for draft in drafts) > HEAVY
    if isinstance(error, AccessDeniedError | ConfigError | UnsupportedError):
        return False
    return isinstance(error, Exception)


def _weigh(payload: Payload) -> int:
    if not isinstance(payload, ChangePayload):
        return 0
    return sum(map(len, payload.changed.values())) + sum(map(len, payload.columns.values()))


def is_refusal(error: BaseException) -> bool:
    """Whether the log answers, and says no to what it was given."""
    away = FencedError | UnavailableError | AccessDeniedError | ConfigError | UnsupportedError
    return isinstance(error, PbscastError) and not isinstance(error, away)


def _leave(draft: Draft, why: str) -> Draft:
    del why
    return draft


def _cut(draft: Draft, why: str) -> Draft:
    """What is too long cut, with its SHA-256; what no text may hold escaped, as `escape` does."""
    values = {name: _tame(value) for name, value in draft.payload.model_dump().items()}
    return _rewrite(draft, values, f"cut: {why}")


def _strip(draft: Draft, why: str) -> Draft:
    """Hardly more than the header: what it said is told by its SHA-256 alone."""
    payload = draft.payload
    kept = {"begin", "end", "reason", "substate", "exit_status"}
    values = {name: value for name, value in payload.model_dump().items() if name in kept}
    if state := getattr(payload, "state", None):
        values["state"] = ascii(state)[1:-1][:16]
    if owner := getattr(payload, "owner", None):
        values["owner"] = ascii(owner)[1:-1][:64]
    if isinstance(payload, GapPayload | ResyncPayload):
        values["cause"] = "refused by the log"
    digest = sha256(repr(payload).encode(errors="surrogatepass")).hexdigest()
    return _rewrite(draft, values, f"not told, {digest}: {ascii(why)[1:-1]}")


def _rewrite(draft: Draft, values: dict[str, Any], note: str) -> Draft:
    kind = type(draft.payload)
    if issubclass(kind, ChangePayload):
        values["changed"] = {**values.get("changed", {}), NOTE: note[:MOST_CHARACTERS]}
    return replace(draft, payload=kind.model_validate(values))


def _tame(value: Any) -> Any:
    if isinstance(value, str):
        return tame_text(value)
    if isinstance(value, dict):
        items = list(value.items())[:MOST_TEXTS]
        return {tame_text(name): _tame(text) for name, text in items}
    if isinstance(value, tuple):
        return tuple(map(_tame, value[:MOST_TEXTS]))
    if isinstance(value, int):
        return value if value in _INT4 else None
    return value


def tame_text(text: str) -> str:
    """Return a text that any index, message or JSON can hold."""
    try:
        raw, is_odd = text.encode(), "\0" in text
    except UnicodeEncodeError:
        raw, is_odd = text.encode(errors="surrogatepass"), True
    if is_odd:
        text = raw.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
        text = text.replace("\0", r"\x00")
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[: MOST_CHARACTERS - 67]}...{sha256(raw).hexdigest()}"


_FORMS: Final = (_leave, _cut, _strip)
