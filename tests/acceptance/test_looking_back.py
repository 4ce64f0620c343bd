"""Looking back at the recorded traces: every command, on a whole deployment."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.commands import Done, execute

import pbscast
from pbscast.cli import main as pbscast_main
from pbscast_deploy.cli import main as pbscastd_main
from pbscast_deploy.oracle import expect
from pbscast_deploy.simulator.record import commits_of
from pbscast_deploy.simulator.replay import Replay
from pbscast_deploy.simulator.trace import Change, bundled_traces, read_trace
from pbscast_deploy.stage import Stage, open_stage
from pbscast_store.log import Log

PATIENCE = 60.0


@dataclass
class Site:
    """A stage on which both traces have been played."""

    stage: Stage
    positions: dict[str, int]

    def pbscast(self, *arguments: str, encoding: str = "utf-8") -> Done:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PBSCAST_SERVERS", self.stage.nats.url)
            return execute(pbscast_main, "pbscast", *arguments, encoding=encoding)

    def report(self, config: Path, *arguments: str) -> Done:
        config.write_text(self.stage.config())
        return execute(pbscastd_main, "pbscastd", "report", f"--config={config}", *arguments)


@contextlib.asynccontextmanager
async def played() -> AsyncIterator[Site]:
    """A stage on which both traces have been played and logged."""
    traces = {site: read_trace(path) for site, path in bundled_traces().items()}
    async with open_stage(*traces) as stage:
        replays = [Replay(traces[site], stage.sites[site].dsn) for site in traces]
        for replay in replays:
            await replay.seed()
        stage.start_daemon()
        await stage.wait_until_followed()
        await side_by_side([*traces.values()], replays)
        for replay in replays:
            replay.close()
        yield Site(stage, await settled(stage))


async def side_by_side(traces: Sequence[Sequence[Change]], replays: Sequence[Replay]) -> None:
    """A hundred times faster, and across the sites in the order in which it was."""
    turns = sorted(
        (change.at, replay)
        for trace, replay in zip(traces, range(len(replays)), strict=True)
        for change in trace
    )
    now, written = asyncio.get_running_loop().time, asyncio.Event()
    begun, origin = now(), turns[0][0]

    async def run(replay: Replay) -> None:
        def hold(_: Change) -> None:
            replay.pause()
            written.set()

        replay.pause()
        await replay.run(on_change=hold)

    async with asyncio.TaskGroup() as tasks:
        for replay in replays:
            tasks.create_task(run(replay))
        await asyncio.sleep(0)
        for at, number in turns:
            written.clear()
            await asyncio.sleep(begun + (at - origin).total_seconds() / 100 - now())
            replays[number].resume()
            await written.wait()


async def settled(stage: Stage) -> dict[str, int]:
    """The position at each site when all jobs of the traces have ended that do."""
    oracles = [expect(commits_of(read_trace(path))) for path in bundled_traces().values()]
    ended = {key[0] for oracle in oracles for key, life in oracle.lives.items() if life.end}
    async with (
        asyncio.timeout(PATIENCE),
        pbscast.connect(stage.nats.url) as client,
        client.watch(ended, until_finished=True) as watch,
    ):
        async for _ in watch:
            pass
    async with Log.open(stage.log_dsn) as log:
        return {row.name: row.position for row in await log.sites()}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One for all tests: they only look."""
    with asyncio.Runner() as runner:
        playing = played()
        yield runner.run(playing.__aenter__())
        runner.run(playing.__aexit__(None, None, None))


def test_a_moved_job(site: Site) -> None:
    told, reverse, lines, objects = (
        site.pbscast("history", "19.sitea"),
        site.pbscast("history", "19.sitea", "--newest-first"),
        site.pbscast("history", "19.sitea", "--events"),
        site.pbscast("history", "19.sitea", "--json"),
    )
    assert [told.status, told.err] == [0, ""]
    heads = [line for line in told.lines if line.startswith(("19.sitea", "──"))]
    assert [line.rstrip("─ ") for line in heads] == [
        "19.sitea  tomove  at sitea, life 1",
        "── handed over: sitea → siteb (workq@siteb)",
        "19.sitea  tomove  at siteb, life 1",
    ]
    assert "  moved to workq@siteb" in told.lines
    assert "  finished, exit status 0" in told.lines
    assert re.search(r"state +H→Q +10  hold by user released", told.out)
    assert [line.rstrip("─ ") for line in reverse.lines if line.startswith("19")] == heads[2::-2]
    assert len(lines.lines) == len(objects.lines) == 13
    assert [item["source"] for item in objects.objects][::12] == ["/pbs/sitea", "/pbs/siteb"]


def test_an_array(site: Site) -> None:
    told = site.pbscast("history", "6[].sitea", encoding="ascii")
    assert (told.status, told.err, told.out.isascii()) == (0, "", True)
    rows = [line.split() for line in told.lines if line.startswith("  [")]
    assert [(row[0], row[-3:-1]) for row in rows] == [
        (f"[{index}]", ["failed", str(index)]) for index in (1, 2, 3, 4)
    ]


def test_who_had_a_job_deleted(site: Site) -> None:
    told = site.pbscast("history", "9.sitea")
    assert told.lines[3] == "  terminated by alice@sitea, exit status 271 (SIGTERM)"
    assert "(sitea:ncpus=1) and terminated by alice@sitea" in told.out.split("comment ")[1]


def test_selections(site: Site) -> None:
    told, jobs, objects = (
        site.pbscast("history", "--owner", "bob", "--since", "1h", "--state", "r"),
        site.pbscast("jobs", "--reason", "terminated", "--site", "sitea", "--oldest-first"),
        site.pbscast("jobs", "--owner", "alice", "--json"),
    )
    assert (told.status, told.err) == (0, "")
    assert any(line.startswith("  3.sitea ") for line in told.lines)
    assert not any(line.startswith("  4.sitea ") for line in told.lines)  # never ran
    ids = [line.split()[1] for line in jobs.lines[1:]]
    assert ids == [
        "4.sitea",
        "5.sitea",
        "9.sitea",
        "18[].sitea",
        "18[1].sitea",
        "18[2].sitea",
        "18[3].sitea",
    ]
    assert {item["owner"] for item in objects.objects} == {"alice"}


def test_moments(site: Site) -> None:
    last = [f"--position={name}:{position}" for name, position in site.positions.items()]
    life = next(
        item
        for item in (site.pbscast("jobs", "9.sitea", "--json")).objects
        if item["id"] == "9.sitea"
    )
    begun = f"--position=sitea:{life['first_position']}"
    now, table, one, first, diff = (
        site.pbscast("at", "now"),
        site.pbscast("at", *last, "--json"),
        site.pbscast("at", "now", "9.sitea"),
        site.pbscast("at", begun, "9.sitea", "--json"),
        site.pbscast("diff", f"{begun}:{life['last_position']}", "9.sitea"),
    )
    assert [line.split()[1] for line in now.lines[1:]] == ["8.sitea"]
    assert [item["id"] for item in table.objects] == ["8.sitea"]
    assert one.lines[0].startswith("9.sitea  at sitea, life 1, revision ")
    assert "  Job_Name " in one.out
    assert [item["state"] for item in first.objects] == ["Q"]
    assert diff.lines[0].startswith("- sitea    9.sitea")
    assert "Q→F   terminated 271" in diff.lines[0]
    assert re.search(r"^    run_count 2$", diff.out, re.MULTILINE)


def test_pages(site: Site, tmp_path: Path) -> None:
    job, report, part = tmp_path / "job.html", tmp_path / "report.html", tmp_path / "b.html"
    config = tmp_path / "pbscast.toml"
    done = (
        site.pbscast("history", "6[].sitea", "--html", str(job)),
        site.report(config, "--from", "1h", "--html", str(report)),
        site.report(config, "--from", "1h", "--site", "siteb", "--html", str(part)),
    )
    assert [item.status for item in done] == [0, 0, 0]
    assert done[1].out == ""
    late, _, written = done[1].err.splitlines()
    assert late.startswith("pbscastd: warning: the log of sitea begins 20")
    assert written == f"{report} is written: 37 lives, 319 events"
    assert "not known" in report.read_text()
    assert "6[4].sitea" in job.read_text()
    assert "sitea" in report.read_text()
    assert "<td>1.sitea" not in part.read_text()
    assert sorted(tmp_path.iterdir()) == sorted([job, report, part, config])


def test_other_objects_than_jobs(site: Site) -> None:
    history = site.pbscast("history", "--kind", "queue", "workq", "--site", "sitea")
    assert {tuple(line.split()[2:5]) for line in history.lines} == {("sitea", "queue", "workq")}
    then = site.pbscast("at", "now", "--kind", "queue")
    assert [line.split()[:3] for line in then.lines[1:]] == [
        ["sitea", "queue", "workq"],
        ["siteb", "queue", "workq"],
    ]
    queue = site.pbscast("at", "now", "workq", "--kind", "queue", "--site", "siteb")
    assert queue.lines[0].startswith("workq  at siteb, life 1")
    assert "  queue_type " in queue.out
    ends = f"sitea:1:{site.positions['sitea']}"
    difference = site.pbscast("diff", "--position", ends, "--kind", "node", "--site", "sitea")
    assert [line.split()[:3] for line in difference.lines] == [["+", "sitea", "sitea"]]
    nobody = site.pbscast("history", "--kind", "node", "n9")
    assert (nobody.status, nobody.err) == (5, "pbscast: the log has no node n9\n")


ARRAY_AND_MOVED = ("6[].sitea", "19.sitea", "18[].sitea")


@pytest.mark.parametrize(
    "question",
    [
        ("history", *ARRAY_AND_MOVED),
        ("history", *ARRAY_AND_MOVED, "--newest-first"),
        ("jobs",),
        ("jobs", "--oldest-first"),
    ],
    ids=" ".join,
)
def test_going_on_where_one_stopped(site: Site, question: tuple[str, ...]) -> None:
    whole = site.pbscast(*question, "--json")
    assert (whole.status, whole.err) == (0, "")
    assert len({item.get("source", item.get("site")) for item in whole.objects}) == 2
    pages = list(walked(site, *question, "--json", "--limit", "9"))
    assert [line for page in pages for line in page.lines] == whole.lines
    assert {len(page.lines) for page in pages[:-1]} == {9}


def walked(site: Site, *question: str) -> Iterator[Done]:
    """Page after page, each as the one before it said."""
    after: list[str] = []
    while True:
        done = site.pbscast(*question, *after)
        assert done.status == 0
        yield done
        if not done.err:
            return
        said = re.fullmatch(r"pbscast: there are more: go on with (--after) (\S+)\n", done.err)
        assert said is not None
        after = [*said.groups()]


def test_what_is_not_there(site: Site, tmp_path: Path) -> None:
    page = tmp_path / "none.html"
    config = tmp_path / "pbscast.toml"
    unknown, nothing, early, elsewhere, empty, before = (
        site.pbscast("history", "999.sitea", "--html", str(page)),
        site.pbscast("jobs", "--owner", "nobody"),
        site.pbscast("at", "2020-01-01"),
        site.report(config, "--from", "1h", "--site", "x", "--html", str(page)),
        site.report(config, "--from", "1h", "--to", "2h", "--html", str(page)),
        site.report(config, "--from", "2020-01-01", "--to", "2020-02-01", "--html", str(page)),
    )
    assert [unknown.status, nothing.status, early.status] == [5, 0, 5]
    assert nothing.err == "pbscast: no job matches\n"
    assert "the log begins at" in early.err
    assert (elsewhere.status, empty.status, before.status) == (5, 2, 5)
    assert elsewhere.err == "pbscastd: --site: no such site: x (known: sitea, siteb)\n"
    assert empty.err.startswith("pbscastd: the period is empty")
    assert "before the log begins" in before.err
    beyond, stranger, then = (
        site.pbscast("history", "19.sitea", "--json", "--after", "sitea:99999"),
        site.pbscast("jobs", "--site", "sitea", "--after", "siteb:1"),
        site.pbscast("history", "19.sitea", "--until", "2020-01-01"),
    )
    assert [beyond.status, stranger.status, then.status] == [2, 5, 5]
    assert "position 99999 is beyond the log of sitea" in beyond.err
    assert "no such site: siteb (asked about: sitea)" in stranger.err
    assert "no event of such a job in that time" in then.err
    for done in (unknown, nothing, early, elsewhere, empty, before, beyond, stranger, then):
        assert done.err.count("\n") == 1
    assert not page.exists()
