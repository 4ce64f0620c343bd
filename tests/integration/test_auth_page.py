"""The section "Who may see what" of deploy/README.md, followed command by command."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from harness.brokers import open_directory
from harness.fanning import draft, until, write
from typer.testing import CliRunner

from pbscast.events import ChangePayload
from pbscast_deploy.cli import app
from pbscast_deploy.embedded.binaries import find_nats_server
from pbscast_deploy.stage import DaemonProcess
from pbscast_store.drafts import Draft
from pbscast_store.log import Log

PAGE = (Path(__file__).parents[2] / "deploy" / "README.md").read_text("utf-8")
SECTION = PAGE.split("\n### Who may see what\n")[1].split("\n### ")[0]
INIT, SERVE, ISSUE, BROKER, PEOPLE, HOURLY, SITES, MENDING = re.findall(
    r"```sh\n(.*?)```", SECTION, re.DOTALL
)
(SETTINGS,) = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
SEED = re.compile(r"\bS[OAU][A-Z2-7]{56}\b")
PATIENCE = 60.0

_AS = """
import encodings.idna, os, sys  # what is loaded late is out of reach of others
import nats.aio.client, nats.js, pbscast.subscription, rich.table
from pbscast.cli import main
os.setgroups([])
os.setgid({uid})
os.setuid({uid})
main()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """Directories and addresses in place of those of the page."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()
        self.printed: list[str] = []
        self._changes = {
            "tls://nats1.example.org:4222": f"tls://127.0.0.1:{self.port}",
            "tls://nats1.example.org": f"tls://127.0.0.1:{self.port}",
            "0.0.0.0:4222": f"127.0.0.1:{self.port}",
            "/root/pbscast-auth": str(place / "auth"),
            "/etc/nats": str(place / "nats"),
            "/var/lib/nats": str(place / "store"),
            "/etc/pbscast": str(place / "etc"),
            "/run/pbscast-broker": str(place),
            "--passwd": "--passwd daemon bin",
            "auth broker": "auth broker --uid-min 1",
        }

    def here(self, text: str) -> str:
        for there, here in self._changes.items():
            text = text.replace(there, here)
        return text

    def shell(self, text: str, *, uid: int = 0) -> list[str]:
        script = _AS.format(uid=uid)
        head = (
            f"set -e; cd {self.place}",
            f"PATH={Path(sys.executable).parent}:{find_nats_server().parent}:$PATH",
            f"export PBSCASTD_AUTH_DIR={self.place / 'auth'}",
            f"pbscast() {{ {sys.executable} -c '{script}' \"$@\"; }}",
        )
        return ["/bin/bash", "-c", "\n".join((*head, self.here(text)))]

    def types(self, text: str, *, uid: int = 0) -> str:
        """What a shell prints for a block; each command has to succeed."""
        done = subprocess.run(
            self.shell(text, uid=uid), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.printed += [done.stdout, done.stderr]
        return done.stdout

    def commands(self, text: str) -> str:
        """The same for a block of `pbscastd` alone, without starting it each time."""
        printed = ""
        for line in self.here(text).splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] != "export":
                assert words[:2] == ["pbscastd", "auth"]
                environment = {"PBSCASTD_AUTH_DIR": str(self.place / "auth")}
                result = CliRunner().invoke(app, words[1:], env=environment)
                assert result.exception is None, (line, result.exception)
                printed += result.output
        self.printed.append(printed)
        return printed

    def secrets(self) -> set[str]:
        """The seeds of all keys and credentials that are anywhere in the directory."""
        files = [path for path in self.place.rglob("*") if path.suffix in {".nk", ".creds"}]
        return {seed for path in files for seed in SEED.findall(path.read_text())}

    @contextmanager
    def running(self, text: str, sign: str) -> Iterator[Path]:
        """A block that does not end by itself, once it has said something."""
        log = self.place / f"{sign}.log"
        with (
            log.open("w") as file,
            subprocess.Popen(
                self.shell(text), stdout=file, stderr=file, start_new_session=True
            ) as process,
        ):
            try:
                while sign not in log.read_text():
                    assert process.poll() is None, log.read_text()
                yield log
            finally:
                self.printed.append(log.read_text())
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(20)


def of(owner: str, job: str) -> Draft:
    payload = ChangePayload(owner=owner, queue="workq", state="R")
    return replace(draft(job), payload=payload)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be somebody else")
async def test_from_nothing_to_a_running_site_by_the_page_alone(
    log: Log, log_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [pwd.getpwnam(name) for name in ("daemon", "bin")]
    await write(log, "sitea", [of(who.pw_name, f"{who.pw_uid}.sitea") for who in people])
    with open_directory() as place:
        monkeypatch.chdir(place)
        site = Site(place)
        assert "for you alone" in await asyncio.to_thread(site.commands, INIT)
        shutil.copytree(place / "auth" / "server", place / "nats")
        for conf in (place / "nats").glob("*.conf"):
            conf.write_text(site.here(conf.read_text()))
        with site.running(SERVE, "Server is ready"):
            await asyncio.to_thread(site.commands, ISSUE)
            (place / "etc").mkdir()
            for name in ("pbscastd.creds", "auth/server/tls/ca.pem", "auth/keys/user.nk"):
                shutil.copy(place / name, place / "etc")
            settings = f'[log]\ndsn = "{log_dsn}"\n[daemon]\nroles = ["fanout"]\n'
            daemon = DaemonProcess(settings + site.here(SETTINGS)).start()
            try:
                with site.running(BROKER, "listening"):
                    await follow(site, daemon, people)
            finally:
                site.printed.append(daemon.log)
                daemon.close()
        assert (
            len(site.secrets()) == 7 + 1 + 3
        )  # keys, the broker's before it was changed, credentials
        printed = "".join(site.printed)
        assert [seed for seed in site.secrets() if seed in printed] == []
        assert "eyJ" not in printed
        assert "eof_received" not in printed


async def follow(site: Site, daemon: DaemonProcess, people: list[pwd.struct_passwd]) -> None:
    await until(lambda: "publishing" in daemon.log, PATIENCE)
    for who, other in (people, people[::-1]):
        shown = await asyncio.to_thread(site.types, PEOPLE, uid=who.pw_uid)
        assert f"{who.pw_uid}.sitea" in shown
        assert f"{other.pw_uid}.sitea" not in shown
    for block in (HOURLY, SITES, MENDING):
        await asyncio.to_thread(site.commands, block)
