"""Whether a job that lives nowhere has gone for good, whichever way it took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from pbscast_fanout.subscriptions.survey import Move, left_for_good

BEGIN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SITES = ("sitea", "siteb", "sitec")
ELSEWHERE = "mars"

stops = st.tuples(st.sampled_from([*SITES, ELSEWHERE]), st.integers(10, 1_000))
routes = (
    st.lists(stops, min_size=2, max_size=8)
    .map(lambda found: [next(same) for _, same in groupby(found, itemgetter(0))])
    .filter(lambda route: len(route) > 1)
)
skews = st.fixed_dictionaries({site: st.integers(-4, 4) for site in SITES})


@given(route=routes, skew=skews)
def test_it_has_if_its_last_move_says_so(
    route: list[tuple[str, int]], skew: dict[str, int]
) -> None:
    """It stayed at each stop but the last for some seconds; clocks differ by less."""
    latest: dict[str, Move] = {}
    now = BEGIN
    for (site, stay), (following, _) in pairwise(route):
        left = now + timedelta(seconds=stay)
        if site != ELSEWHERE:
            off = timedelta(seconds=skew[site])
            target = None if following == ELSEWHERE else following
            latest[site] = Move(site, now + off, left + off, target)
        now = left
    last_site, target = route[-2][0], route[-1][0]
    if last_site == ELSEWHERE:
        return  # on its way back: to all that can be seen it is elsewhere
    found = left_for_good(list(latest.values()))
    assert (found is not None) == (target == ELSEWHERE)
    if found is not None:
        assert found >= latest[last_site].ended


def test_of_which_nothing_is_known_has_not() -> None:
    assert left_for_good([]) is None
