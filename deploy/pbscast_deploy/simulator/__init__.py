"""A PBS server as its datastore sees it: replays recorded changes and makes a steady load of them.

It stands in for PBS in the demo, the tests and the benchmarks. One autocommitted prepared statement
per change on one connection, as PBS writes (OpenPBS 23.06, datastore schema 1.5.0).
"""

from __future__ import annotations
