"""A broker as a process, and people of this machine who ask it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_ALLOWED = 3
_PERSON = """
import ctypes, os, socket, sys
uid, path, said, times = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode(), int(sys.argv[4])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
if sys.argv[5:] and ctypes.CDLL(None).unshare(0x10000000):  # CLONE_NEWUSER
    sys.exit(3)
for _ in range(times):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        answer = b""
        try:
            if said:
                client.sendall(said)
            while part := client.recv(65536):
                answer += part
        except ConnectionResetError:
            assert said and answer  # nobody listens to what is said
    sys.stdout.write(answer.decode().rstrip() + "\\n")
"""


@dataclass
class RunningBroker:
    """Where it listens, and what it logged."""

    socket: Path
    process: subprocess.Popen[str]
    log: Path

    def asked_by(
        self, uid: int, said: str = "", times: int = 1, *, apart: bool = False
    ) -> list[dict[str, Any]]:
        """What somebody is answered: a process that is his, as far as the kernel knows.

        ``apart``: in a user namespace of its own, where it is called otherwise; nothing where the
        machine allows none.
        """
        words = [str(uid), str(self.socket), said, str(times), *(["apart"] if apart else [])]
        command = [sys.executable, "-c", _PERSON, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        if apart and done.returncode == _NOT_ALLOWED:
            return []
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that everybody can enter, with a short name, in which only its owner writes."""
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def brokering(directory: Path, realm: Path, url: str, *more: str) -> Iterator[RunningBroker]:
    """A broker with a copy of the key that it needs, and of nothing else of the realm."""
    key, ca, log = directory / "user.nk", directory / "ca.pem", directory / "log"
    key.touch(0o600)
    key.write_bytes((realm / "keys" / "user.nk").read_bytes())
    ca.write_bytes((realm / "server" / "tls" / "ca.pem").read_bytes())
    socket = directory / "socket"
    command = [sys.executable, "-m", "pbscast_deploy", "auth", "broker", "--socket", str(socket)]
    command += ["--key", str(key), "--ca", str(ca), "--server", url, "--log-format", "json", *more]
    with log.open("w") as file, subprocess.Popen(command, stderr=file, text=True) as process:
        try:
            while '"listening"' not in log.read_text():
                assert process.poll() is None, log.read_text()
            yield RunningBroker(socket, process, log)
        finally:
            process.terminate()
            process.wait(60)
