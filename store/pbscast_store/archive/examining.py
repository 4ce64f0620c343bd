"""Whether an archive is what its manifest says: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pbscast.errors import DecodeError
from pbscast_store.archive.manifest import Manifest, events_name, objects_name
from pbscast_store.archive.mentions import Mention, mention
from pbscast_store.archive.proof import Proof
from pbscast_store.archive.thinning import Entry, Marks, Thinned
from pbscast_store.records import Record

_MASK: Final = 2**64 - 1


class Examination:
    """Takes all events of an archive in order, then its index of objects.

    The manifest is believed in nothing but `previous` and `unchained`: where the archive's place in
    the chain is, only the log knows. Every method raises DecodeError, naming the file.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """`path` is the manifest's."""
        contents = manifest.contents
        self._path = path
        self._manifest = manifest
        self._proof = Proof(
            contents.site,
            contents.first_position - 1,
            bytes.fromhex(contents.previous),
            contents.unchained,
        )
        self._thinned = Marks()
        self._mentioned = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """The next events."""
        try:
            self._proof.add(entries)
        except DecodeError as error:
            raise self._wrong(self._manifest.events.name, str(error)) from error
        for entry in entries:
            if isinstance(entry, Thinned):
                self._thinned.add(entry.position)
        self._mentioned += _sum(mention(entry) for entry in entries if isinstance(entry, Record))

    def finish(self, mentions: Iterable[Iterable[Mention]]) -> None:
        """All events were taken; these are the index's."""
        manifest = self._manifest
        self._check_thinned()
        if self._proof.contents() != manifest.contents:
            raise self._wrong(manifest.events.name, "holds other events than its manifest says")
        if (self._mentioned - sum(map(_sum, mentions))) & _MASK:
            raise self._wrong(manifest.objects.name, "does not fit the events")
        names = (events_name, objects_name)
        for file, name in zip((manifest.events, manifest.objects), names, strict=True):
            if file.name != name(manifest.partition, manifest.usage):
                raise self._wrong(self._path.name, f"{file.name} is no name of its files")

    def _check_thinned(self) -> None:
        manifest, thinned = self._manifest, self._thinned
        if thinned.number and thinned.hexdigest() != manifest.contents.thinnable:
            raise self._wrong(
                self._path.name,
                "other events have lost their payload than those that may be thinned:"
                " the archive was changed, put back a copy",
            )
        due = manifest.contents.thinnable if manifest.usage == "thinned" else Marks().hexdigest()
        if thinned.number != manifest.thinned or thinned.hexdigest() != due:
            raise self._wrong(
                self._path.name,
                f"says that {manifest.thinned} events were thinned ({manifest.usage}), and"
                f" {thinned.number} were: it was changed, put back a copy",
            )

    def _wrong(self, name: str, text: str) -> DecodeError:
        return DecodeError(f"{self._path.with_name(name)}: {text}")


def _sum(mentions: Iterable[Mention]) -> int:
    """Does not depend on their order."""
    return sum(map(hash, mentions))
