from __future__ import annotations

import psycopg
import pytest

from pbscast.errors import UnavailableError
from pbscast_deploy.simulator.datastore import create_datastore


def test_it_is_as_pbs_makes_it_on_every_postgres(each_datastore_dsn: str) -> None:
    with psycopg.connect(each_datastore_dsn) as connection:
        assert connection.info.parameter_status("server_encoding") == "SQL_ASCII"
        locale = connection.execute(
            "SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        version = connection.execute("SELECT pbs_schema_version FROM pbs.info").fetchone()
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'pbs'::regnamespace"
            " AND relkind = 'r' ORDER BY 1"
        ).fetchall()
    assert locale == (b"C", b"C")
    assert version == (b"1.5.0",)
    names = b"info job job_scr mominfo_time node queue resv scheduler server"
    assert [name for (name,) in tables] == names.split()


def test_a_second_one_of_the_same_name_is_refused(datastore_server: str) -> None:
    with pytest.raises(UnavailableError, match="already exists") as caught:
        create_datastore(datastore_server, "postgres")
    assert "\n" not in str(caught.value)
