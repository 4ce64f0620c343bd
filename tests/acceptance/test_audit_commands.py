"""`pbscastd audit` as an auditor uses it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from random import Random

import asyncpg
import pytest
from harness.histories import History
from typer.testing import CliRunner, Result

from pbscast.errors import ConfigError, UsageError
from pbscast_deploy.cli import app
from pbscast_store.log import Log


@pytest.fixture
def config(log_dsn: str, tmp_path: Path) -> Path:
    asyncio.run(_write(log_dsn))
    path = tmp_path / "pbscast.toml"
    path.write_text(f'[log]\ndsn = "{log_dsn}"\n')
    return path


async def _write(dsn: str) -> None:
    async with Log.open(dsn) as log:
        for site in ("sitea", "siteb"):
            await log.register_site(site)
            writer = await log.acquire(site, "test", 600)
            assert writer is not None
            for batch in History(site, Random(5)).grow(50):
                await writer.append(batch, {})


async def _forge(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "UPDATE pbscast_log.event SET owner = 'mallory' WHERE position = 20 AND site = 'sitea'"
    )
    await connection.close()


def pbscastd(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_auditor_signs_keeps_and_verifies(config: Path, log_dsn: str, tmp_path: Path) -> None:
    key, kept = tmp_path / "audit.key", tmp_path / "kept.jsonl"
    assert isinstance(pbscastd("audit", "checkpoint", "--config", config).exception, ConfigError)
    unsigned = pbscastd("audit", "verify", "--config", config)
    assert unsigned.exit_code == 0
    assert "sitea: nothing is signed: who can write the log can rewrite it" in unsigned.output
    assert unsigned.stderr == ""
    strict = ("audit", "verify", "--config", config, "--require-signed")
    assert isinstance(pbscastd(*strict).exception, UsageError)

    made = pbscastd("audit", "key", "--out", key)
    assert made.exit_code == 0
    settings = made.output.partition("# for pbscast.toml:\n")[2]
    config.write_text(f"{config.read_text()}\n{settings}")
    unsigned = pbscastd(*strict)
    assert unsigned.exit_code == 1
    assert "FAILED siteb: no checkpoint is signed" in unsigned.output
    signed = pbscastd("audit", "checkpoint", "--config", config, "--export", kept)
    assert signed.exit_code == 0
    assert "siteb: checkpoint 1 at position 5" in signed.output
    assert f"{kept} is written: 2 checkpoints" in signed.output
    again = pbscastd("audit", "checkpoint", "--config", config)
    assert again.output == "nothing was logged since the last checkpoints\n"
    assert pbscastd(*strict).exit_code == 0

    clean = pbscastd("audit", "verify", "--config", config, "--checkpoints", kept)
    assert clean.exit_code == 0
    assert "sitea: 1 signed checkpoint agrees, at position 5" in clean.output
    asyncio.run(_forge(log_dsn))
    forged = pbscastd("audit", "verify", "--config", config, "--public-key", f"{key}.pub")
    assert forged.exit_code == 1
    first, *rest = [line for line in forged.output.splitlines() if line.strip()]
    assert re.match(
        r"FAILED sitea:20 \(job \S+, \w+, \S+Z\): the row was changed after it was logged", first
    )
    assert rest[0].startswith("siteb: 5")
    assert pbscastd("audit", "verify", "--config", config, "--site", "siteb").exit_code == 0
