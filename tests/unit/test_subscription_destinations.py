from __future__ import annotations

import pytest

from pbscast.events import Site
from pbscast_fanout.subscriptions.destinations import called, find, server_in

SITES = [
    (Site("sitea"), ["sitea", "pbs-a.example.org"]),
    (Site("siteb"), ["siteb", "PBS-B"]),
    (Site("sitec"), ["sitec", "pbs.c.example.org"]),
    (Site("sited"), ["sited", "pbs.d.example.org", ""]),
]


@pytest.mark.parametrize(
    ("destination", "server"),
    [
        ("workq@siteb", "siteb"),
        ("workq@PBS-B.example.org:15001", "pbs-b.example.org"),
        ("workq", None),
        ("workq@", None),
        ("", None),
        (None, None),
    ],
)
def test_a_destination_names_a_server(destination: str | None, server: str | None) -> None:
    assert server_in(destination) == server


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("sitea", "sitea"),
        ("pbs-a.example.org", "sitea"),
        ("pbs-a", "sitea"),
        ("pbs-a.example.com", None),
        ("pbs-b", "siteb"),
        ("pbs-b.example.org", "siteb"),
        ("pbs.c.example.org", "sitec"),
        ("pbs", None),
    ],
)
def test_servers_are_called_whole_or_short_unless_two_are(name: str, site: str | None) -> None:
    assert find(name, called(SITES)) == site
