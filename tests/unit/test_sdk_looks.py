"""How lives look: bars, stories, overviews, tables and pages, in every kind of terminal."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness.stream import BEGIN, Message, SiteLog
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pbscast import wire
from pbscast.census import BUCKETS, MOST_EXACT, Census, Lengths, StateCounts
from pbscast.events import Provenance
from pbscast.handovers import HandOvers
from pbscast.lives import Difference, Life, Standing, Values
from pbscast.plots.history import history_page
from pbscast.scale import Scale
from pbscast.story import Story
from pbscast.terminal.bar import axis
from pbscast.terminal.moments import put_difference, put_in_full, put_lives, put_standings
from pbscast.terminal.overview import MOST_ROWS
from pbscast.terminal.paper import Paper
from pbscast.terminal.steps import clocks
from pbscast.terminal.telling import tell

NOW = BEGIN + timedelta(minutes=5)
EVIL = "<script>alert(1)</script>\x1b[31m"


class Sheet(Paper):
    """A paper whose print can be read."""

    def __init__(
        self, width: int = 100, *, encoding: str = "utf-8", terminal: bool = False, **more: Any
    ) -> None:
        self.raw = io.BytesIO()
        file = io.TextIOWrapper(self.raw, encoding=encoding, errors="replace", newline="")
        super().__init__(
            Console(
                file=file,
                width=width,
                force_terminal=terminal,
                highlight=False,
                markup=False,
                soft_wrap=True,
                emoji=False,
                color_system="standard" if terminal else None,
                legacy_windows=False,
                **more,
            )
        )

    @property
    def text(self) -> str:
        self.console.file.flush()
        return self.raw.getvalue().decode(self.console.encoding)

    @property
    def lines(self) -> list[str]:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.text).splitlines()


def story(messages: Iterable[Message], *ids: str) -> Story:
    told, hand_overs = Story(ids), HandOvers()
    for message in messages:
        event = wire.decode(message.body)
        told.observe(event, hand_overs.note(event))
    return told


def held_job(site: SiteLog) -> list[Message]:
    return [
        site.job("7.a", "submit", name="sim", state="H", changed={"Hold_Types": "u"}),
        site.job("7.a", state="Q", old_state="H", changed={"Hold_Types": "n", "mtime": "1"}),
        site.job("7.a", "move", state="Q", queue="batch", changed={"queue": "batch"}),
        site.job("7.a", "modify", state="Q", queue="batch", changed={"Priority": "5"}),
        site.job("7.a", "modify", state="Q", queue="batch", changed={"Priority": "9"}),
        site.job("7.a", state="R", old_state="Q", queue="batch", substate=42),
        site.job(
            "7.a", "finalize", reason="failed", exit_status=271, usage={"mem": "1kb"}, queue="batch"
        ),
    ]


def test_a_story_in_a_pipe_is_plain_lines() -> None:
    sheet = Sheet(60)
    tell(story(held_job(SiteLog("a")), "7.a"), sheet, NOW)
    lines = sheet.lines
    assert lines[0] == "7.a  sim  at a, life 1"
    assert lines[1] == "  owner alice  queue workq, batch"
    assert lines[3] == "  failed, exit status 271 (SIGTERM)"
    bar = lines[5].strip()
    assert (len(bar), set(bar)) == (56, set("HQRF"))
    assert "  H held 1.0s 17%   Q queued 4.0s 67%   R running 1.0s 17%   F finished 0s" in lines
    assert "  used mem 1kb" in lines
    told = [line[12:] for line in lines[-7:]]
    assert told == [
        "submit    H    held by user",
        "state     H→Q  hold by user released  mtime",
        "move      Q    queue workq → batch  queue",
        "modify    Q    Priority 5",
        "modify    Q    Priority 5 → 9",
        "state     Q→R  42",
        "finalize  F    failed, exit status 271 (SIGTERM)",
    ]


def test_no_line_says_only_how_many_attributes_changed() -> None:
    site = SiteLog("a")
    names = {f"name{number}": "x" for number in range(34)}
    messages = [
        site.job("7.a", "submit", state="Q", changed={"mtime": "1", **names}),
        site.job("7.a", state="Q", substate=11, changed={"qtime": "1"}),
    ]
    sheet, wide = Sheet(60), Sheet(400)
    tell(story(messages, "7.a"), sheet, NOW)
    tell(story(messages, "7.a"), wide, NOW)
    submit, state = sheet.lines[-2:]
    assert submit.endswith("  name0, name1, name2 and 32 more")
    assert len(submit) <= 60
    assert state.endswith("11  qtime")
    assert wide.lines[-2].endswith(", name33, mtime")


def test_in_full_every_event_tells_all_its_values_and_its_place() -> None:
    site = SiteLog("a")
    long = "x" * 300
    messages = [
        site.job("7.a", "submit", state="Q", changed={"Priority": "0", "Variable_List": long}),
        site.job("7.a", "modify", state="Q", changed={"Priority": "5"}, removed=("depend",)),
        site.job("7.a", state="R", old_state="Q", substate=42, old_substate=10),
        site.job("7.a", "finalize", reason="failed", exit_status=3, usage={"mem": "1kb"}),
    ]
    told = story(messages, "7.a")
    entries = told.courses[0].entries
    guessed = entries[1].event.model_copy(update={"provenance": Provenance.RESYNC})
    entries[1] = entries[1]._replace(event=guessed)
    sheet, reverse = Sheet(), Sheet()
    tell(told, sheet, NOW, in_full=True)
    tell(told, reverse, NOW, in_full=True, newest_first=True)
    lines = [line[12:] if line[2:4].isdigit() else line for line in sheet.lines[-10:]]
    assert lines == [
        "submit  Q  position 1",
        "      Priority 0",
        f"      Variable_List {long}",
        "modify  Q  position 2  known from resync",
        "      Priority 0 → 5",
        "      depend removed",
        "state  Q→R  10→42  position 3",
        "finalize  F  position 4",
        "      failed, exit status 3",
        "      used mem 1kb",
    ]
    assert "submit  Q  position 1" in reverse.lines[-3]


def test_times_of_events_can_be_told_apart_and_have_a_zone() -> None:
    ms = timedelta(milliseconds=1)
    far = timedelta(hours=30)
    one, two = BEGIN, BEGIN + far
    plain = [f"{time.astimezone():%H:%M:%S}" for time in (one, one + 2000 * ms)]
    assert clocks([one, one + 2000 * ms]) == plain
    assert [text[-4:] for text in clocks([one, one + 7 * ms])] == [".000", ".007"]
    assert clocks([one, two]) == [f"{time.astimezone():%Y-%m-%d %H:%M:%S}" for time in (one, two)]
    assert clocks([]) == []
    sheet = Sheet()
    tell(story(SiteLog("a").life("7.a"), "7.a"), sheet, NOW)
    began = (BEGIN + 1000 * ms).astimezone().isoformat(" ", "seconds")
    assert re.fullmatch(r".*[+-]\d\d:\d\d", began)
    assert f"began {began}" in sheet.lines[2]


def test_an_axis_on_which_no_time_is_round_is_a_line_alone() -> None:
    begin = BEGIN + timedelta(milliseconds=100)
    [line] = axis(Scale(begin, begin + timedelta(milliseconds=300), 40), Sheet())
    assert line.plain == "─" * 40


def test_objects_of_another_kind_are_a_table_of_their_own() -> None:
    fields = {"site": "sitea", "kind": "node", "incarnation": 1, "revision": 2, "position": 9}
    standing = Standing.model_validate({**fields, "id": "n1", "began": BEGIN, "state": "free"})
    sheet = Sheet()
    put_standings([standing], sheet)
    put_in_full(standing, sheet)
    assert [line.split()[:4] for line in sheet.lines] == [
        ["site", "kind", "name", "state"],
        ["sitea", "node", "n1", "free"],
        ["n1", "at", "sitea,", "life"],
        ["free"],
    ]


def test_the_newest_first() -> None:
    sheet = Sheet()
    tell(story(held_job(SiteLog("a")), "7.a"), sheet, NOW, newest_first=True)
    assert "submit" in sheet.lines[-1]


@pytest.mark.parametrize("width", [20, 30, 45, 59, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(width: int, encoding: str) -> None:
    site = SiteLog("a")
    messages = [*held_job(site)]
    for index in range(5):
        messages += site.life(f"6[{index}].a", name="x" * 30)
    messages += site.life("6[].a", name="array")
    for ids in ((), ("7.a",), ("6[].a",)):
        sheet = Sheet(width, encoding=encoding, terminal=True)
        tell(story(messages, *ids), sheet, NOW)
        bars = [line for line in sheet.lines if re.fullmatch(r"\s*[HQREF ]{8,}\s*", line)]
        assert all(len(line) <= width for line in bars)
        assert encoding == "utf-8" or sheet.text.isascii()


def test_colours_are_those_of_the_states_and_letters_stay() -> None:
    sheet = Sheet(terminal=True)
    tell(story(SiteLog("a").life("7.a"), "7.a"), sheet, NOW)
    assert re.search(r"\x1b\[30;43mQ {5,}\x1b\[0m\x1b\[30;42mR {5,}\x1b\[0m", sheet.text)
    plain = Sheet(terminal=True, no_color=True)
    tell(story(SiteLog("a").life("7.a"), "7.a"), plain, NOW)
    assert any("QQQQ" in line and "RRRR" in line for line in plain.lines)


def test_a_hand_over_is_a_line_between_two_lives() -> None:
    here, there = SiteLog("sitea"), SiteLog("siteb")
    messages = [
        here.job("19.sitea", "submit", state="Q"),
        here.job("19.sitea", "finalize", reason="moved", destination="workq@siteb"),
        *there.life("19.sitea"),
    ]
    sheet = Sheet()
    tell(story(messages, "19.sitea"), sheet, NOW)
    place = next(n for n, line in enumerate(sheet.lines) if "handed over" in line)
    assert sheet.lines[place].startswith("── handed over: sitea → siteb (workq@siteb) ──")
    assert sheet.lines[place + 2] == "19.sitea    at siteb, life 1"


def array(count: int) -> list[Message]:
    site = SiteLog("a")
    messages = [site.job("6[].a", "submit", state="B")]
    for index in range(count):
        reason = {"reason": "failed", "exit_status": 3} if index == 7 else {}
        messages += list(site.life(f"6[{index}].a"))[:4]
        messages.append(site.job(f"6[{index}].a", "finalize", **reason))
    return messages


def test_an_array_has_a_row_for_each_subjob() -> None:
    sheet = Sheet()
    tell(story(array(9), "6[].a"), sheet, NOW)
    rows = [line for line in sheet.lines if line.startswith("  [")]
    assert [row.split()[0] for row in rows] == [f"[{index}]" for index in range(9)]
    assert "failed 3" in rows[7]


def test_hundreds_of_subjobs_are_condensed_and_bad_ends_are_named() -> None:
    sheet = Sheet()
    tell(story(array(MOST_ROWS + 1), "6[].a"), sheet, NOW)
    rows = [line for line in sheet.lines if line.startswith("  [")]
    assert len(rows) <= 52
    assert rows[2].startswith("  [6] - [8]")
    assert "2 finished, 1 failed" in rows[2]
    assert "  101 lives, 3 a row: each cell shows what most are in" in sheet.lines
    assert "  [7]  failed, exit status 3" in sheet.lines


def test_what_users_wrote_moves_no_cursor() -> None:
    sheet = Sheet()
    name = {"name": EVIL, "owner": EVIL, "changed": {"comment": EVIL}}
    site = SiteLog("a")
    messages = [site.job("1.a", "submit", **name), site.job("1.a", "modify", **name)]
    tell(story(messages, "1.a"), sheet, NOW)
    tell(story(messages), sheet, NOW)
    assert "\x1b" not in sheet.text


def standing(**more: Any) -> Standing:
    known = {
        "site": "a",
        "kind": "job",
        "id": "1.a",
        "incarnation": 1,
        "revision": 3,
        "position": 9,
        "began": BEGIN,
        "owner": "alice",
        "queue": "workq",
        "name": "sim",
        "state": "Q",
    }
    return Standing.model_validate(known | more)


def test_a_table_leaves_columns_out_where_there_is_no_room() -> None:
    rows = [standing(), standing(id="2.a", state="R", name=EVIL)]
    wide, narrow = Sheet(), Sheet(40, terminal=True)
    put_standings(rows, wide)
    put_standings(rows, narrow)
    assert wide.lines[0].split() == [
        "site",
        "job",
        "name",
        "owner",
        "queue",
        "project",
        "state",
        "began",
    ]
    assert wide.lines[2].split()[:2] == ["a", "2.a"]
    assert max(map(len, narrow.lines)) <= 40
    assert narrow.lines[0].split() == ["site", "job", "owner", "state"]
    assert "\x1b" not in wide.text


def test_lives_as_a_table() -> None:
    life = Life.model_validate(
        {
            "site": "a",
            "kind": "job",
            "id": "1.a",
            "incarnation": 2,
            "owner": "alice",
            "first_position": 1,
            "last_position": 9,
            "queue": "workq",
            "state": "F",
            "began": BEGIN,
            "ended": BEGIN + timedelta(minutes=3),
            "reason": "failed",
            "exit_status": 1,
            "reached": ("Q", "R", "F"),
        }
    )
    sheet = Sheet(200)
    put_lives([life], sheet, NOW)
    assert "1.a #2" in sheet.lines[1]
    assert "Q→R→F" in sheet.lines[1]
    assert sheet.lines[1].endswith("3m 00s  failed 1")


def test_one_job_in_full() -> None:
    sheet = Sheet()
    attributes = {"Priority": "5", "Variable_List": EVIL}
    put_in_full(standing(attributes=attributes, omitted=("big",)), sheet)
    assert sheet.lines[0] == "1.a  at a, life 1, revision 3, position 9"
    assert sheet.lines[2] == "  Priority       5"
    assert sheet.lines[4].startswith("  big            (too large")
    assert "\x1b" not in sheet.text


def test_a_difference_names_what_it_does_not_show() -> None:
    sheet = Sheet(140)
    changed = {name: Values("1", "2") for name in ("a", "b", "c", "d", "e", "mtime")}
    both = Difference(before=standing(), after=standing(), changed=changed)
    put_difference(both, sheet, in_full=False)
    assert sheet.lines[0].endswith("d 1 → 2  e, mtime")


def test_differences() -> None:
    sheet = Sheet()
    changed = {"Priority": Values("0", "5"), "Hold_Types": Values("u", "n")}
    put_difference(Difference(after=standing()), sheet, in_full=False)
    both = Difference(before=standing(), after=standing(state="R"), changed=changed)
    put_difference(both, sheet, in_full=False)
    put_difference(both, sheet, in_full=True)
    ended = standing(state="F", ended=NOW, reason="failed", exit_status=1)
    put_difference(Difference(before=standing(), after=ended), sheet, in_full=False)
    assert sheet.lines[0].startswith("+ a        1.a")
    assert sheet.lines[1].startswith("~ ")
    assert sheet.lines[1].endswith("Q→R   hold by user released  Priority 0 → 5")
    assert sheet.lines[3:5] == ["    hold by user released", "    Priority 0 → 5"]
    assert sheet.lines[5].startswith("- ")
    assert sheet.lines[5].endswith("Q→F   failed 1")


spans = st.lists(
    st.tuples(st.sampled_from("QR"), st.integers(-500, 1500), st.integers(0, 1500)), max_size=15
)


@settings(max_examples=60)
@given(spans)
def test_counts_in_buckets_add_up_to_the_time_spent(found: list[tuple[str, int, int]]) -> None:
    begin, end = BEGIN, BEGIN + timedelta(seconds=1000)
    counts = StateCounts(begin, end, 7)
    spent: dict[str, float] = {}
    for state, since, length in found:
        counts.add(
            state, BEGIN + timedelta(seconds=since), BEGIN + timedelta(seconds=since + length)
        )
        within = max(0, min(since + length, 1000) - max(since, 0))
        spent[state] = spent.get(state, 0) + within
    seen = {state: sum(numbers) * 1000 / 7 for state, numbers in counts.states()}
    for state, seconds in spent.items():
        assert seen.get(state, 0) == pytest.approx(seconds, abs=0.01)


@given(st.lists(st.floats(0.02, 1e7), min_size=1), st.sampled_from([0.5, 0.9, 1.0]), st.booleans())
@settings(max_examples=50)
def test_quantiles_are_exact_of_few_and_right_to_a_twentieth_of_many(
    seconds: list[float],
    share: float,
    many: bool,  # noqa: FBT001
) -> None:
    lengths = Lengths()
    times = [timedelta(seconds=second) for second in seconds] * (MOST_EXACT + 1 if many else 1)
    for time in times:
        lengths.add(time)
    found = lengths.quantile(share)
    assert found is not None
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    assert lengths.is_exact is (len(times) <= MOST_EXACT)
    assert found == exact or not lengths.is_exact
    assert found.total_seconds() == pytest.approx(exact.total_seconds(), rel=0.05)
    assert min(times) <= found <= lengths.longest == max(times)
    assert sum(lengths.bins) == lengths.count == len(times)


def test_time_held_is_no_wait_in_the_queue() -> None:
    told = story([*held_job(SiteLog("a")), *SiteLog("b").life("1.b")])
    assert told.courses[1].held == timedelta()
    held = next(course for course in told.courses if course.key.site == "a")
    second = timedelta(seconds=1)
    assert (held.held, held.waited, held.ran_from) == (second, 4 * second, BEGIN + 6 * second)
    html = page(told)
    [row] = re.findall(r"<tr><t[dh][^>]*>a</t[dh]>(.*?)</tr>", html)
    cells = re.sub(r"<[^>]*>", " ", row).split()
    assert cells == ["1", "1", "1", *["4.0s"] * 3, *["1.0s"] * 5]
    assert "Ended badly: " in html


def test_a_census_counts_what_lies_within() -> None:
    told = story([*SiteLog("a").life("1.a"), *SiteLog("b").life("1.b", owner="bob")])
    census = Census(BEGIN + timedelta(seconds=2), BEGIN + timedelta(seconds=4))
    for course in told.courses:
        census.add(course, NOW)
    assert (census.lives, set(census.owners)) == (2, {"alice", "bob"})
    tally = census.sites["a"]
    assert (tally.waits.count, tally.runs.count, tally.ends.total()) == (1, 0, 0)
    assert {state for state, _ in census.states["a"].states()} == {"R", "E"}
    early = Census(BEGIN - timedelta(hours=1), BEGIN)
    early.add(told.courses[0], NOW)
    assert (early.lives, early.longest) == (0, [])


def page(told: Story) -> str:
    return "".join(history_page(told, NOW))


def figures(html: str) -> list[Any]:
    found = re.findall(r'<script type="application/json" id="figure-\d+">(.*?)</script>', html)
    return [json.loads(figure) for figure in found]


def test_a_page_shows_lives_and_needs_nothing_else() -> None:
    html = page(story(held_job(SiteLog("a")), "7.a"))
    (gantt,) = figures(html)
    assert {bar["name"] for bar in gantt["data"]} == {"held", "queued", "running", "finished"}
    # The library has addresses in it that are never fetched: the policy forbids it.
    assert "default-src 'none'" in html
    assert not re.search(r'<(script|link|img|iframe)[^>]*(src|href)="', html)
    assert "Priority 5 → 9" in html
    assert "a 1 to 7" in html


def test_a_page_is_harmless_whatever_users_write() -> None:
    site = SiteLog("a")
    evil = {"name": EVIL, "owner": EVIL, "queue": EVIL, "project": EVIL}
    messages = [*site.life("1.a", **evil), *site.life("2.a", **evil)]
    messages.append(site.job("1.a", "modify", changed={"comment": EVIL, EVIL: EVIL}, **evil))
    html = page(story(messages, "1.a", "2.a"))
    assert "<script>alert" not in html
    for figure in figures(html):
        texts = json.dumps(figure)
        assert "<script" not in texts
        assert "&lt;script&gt;" in texts or "alert" not in texts


def test_thousands_of_jobs_give_a_page_of_bounded_size() -> None:
    def size(count: int) -> int:
        site = SiteLog("a")
        messages = (m for n in range(count) for m in site.life(f"{n}.a", name="n" * 15))
        html = page(story(messages))
        assert f"of {count:,}" in html
        return len(html)

    small, large = size(150), size(600)
    assert large - small < 20_000
    assert large < 6_000_000


def test_a_life_without_end_lasts_until_now() -> None:
    told = story([SiteLog("a").job("1.a", "submit", state="Q")], "1.a")
    (gantt,) = figures(page(told))
    (bar,) = gantt["data"]
    assert bar["x"] == [299_000]
    assert datetime.fromisoformat(bar["base"][0]).astimezone(UTC) == BEGIN + timedelta(seconds=1)
    assert BUCKETS > 100
