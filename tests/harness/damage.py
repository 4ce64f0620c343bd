"""What can become of capture in a datastore."""

from __future__ import annotations

from typing import Final

DAMAGE: Final = {
    "journal dropped": "DROP TABLE pbscast.journal",
    "journal renamed": "ALTER TABLE pbscast.journal RENAME TO gone",
    "journal without a column": "ALTER TABLE pbscast.journal DROP COLUMN context",
    "journal that refuses": "ALTER TABLE pbscast.journal ADD CHECK (op IN ('H', 'G')) NOT VALID",
    "journal that refuses all": "ALTER TABLE pbscast.journal ADD CHECK (op = 'H') NOT VALID",
    "rights revoked": "REVOKE ALL ON pbscast.journal FROM pbscast_owner",
    "all rights revoked": "REVOKE ALL ON ALL TABLES IN SCHEMA pbscast FROM pbscast_owner;"
    " REVOKE ALL ON ALL SEQUENCES IN SCHEMA pbscast FROM pbscast_owner;"
    " REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pbscast FROM pbscast_owner;"
    " REVOKE ALL ON SCHEMA pbscast FROM pbscast_owner",
    "schema closed": "REVOKE ALL ON SCHEMA pbscast FROM pbscast_owner",
    "numbers dropped": "DROP SEQUENCE pbscast.journal_seq",
    "counter dropped": "DROP SEQUENCE pbscast.gap_seq",
    "switch dropped": "DROP FUNCTION pbscast.mode()",
    "sequences dropped": "DROP SEQUENCE pbscast.journal_seq, pbscast.gap_seq",
    "control dropped": "DROP TABLE pbscast.control",
    "everything dropped": "DROP TABLE pbscast.journal, pbscast.control, pbscast.installation;"
    " DROP SEQUENCE pbscast.journal_seq, pbscast.gap_seq; DROP FUNCTION pbscast.mode()",
    "helpers dropped": "DROP FUNCTION pbscast.hold_back(), pbscast.watch_size(), pbscast.is_full(),"
    " pbscast.note_loss(text, text, text), pbscast.lose(text, boolean), pbscast.ring(),"
    " pbscast.mark_gap(text, text, timestamptz, text[])",
    "helpers and journal dropped": "DROP FUNCTION pbscast.note_loss(text, text, text),"
    " pbscast.lose(text, boolean); DROP TABLE pbscast.journal",
    "hstore moved": "CREATE SCHEMA aside; ALTER EXTENSION hstore SET SCHEMA aside",
    "numbers used up": "SELECT setval('pbscast.journal_seq', 9223372036854775807)",
}

HARMLESS: Final = frozenset({"counter dropped", "control dropped"})
"""Changes are journaled all the same, without a cap 63 of them at least."""

UNTOLD: Final = (
    "all rights revoked",
    "schema closed",
    "counter dropped",
    "control dropped",
    "sequences dropped",
    "everything dropped",
    "helpers dropped",
    "helpers and journal dropped",
)
"""Neither a marker nor the counter of losses tells of a save that was lost, if one was."""
