"""Credentials, brokers and authorities as settings give them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats.errors
import pytest

from pbscast.credentials import Credential, FileSource
from pbscast.dialing import is_refusal
from pbscast.errors import ConfigError
from pbscast.settings import Settings
from pbscast_deploy.auth.keys import Key, Kind
from pbscast_deploy.auth.tokens import credentials, encode

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def content(key: Key, *, expires: datetime | None = None, issued: datetime = NOW) -> str:
    claims: dict[str, object] = {"sub": key.public, "iat": int(issued.timestamp())}
    if expires is not None:
        claims["exp"] = int(expires.timestamp())
    return credentials(encode({**claims, "nats": {}}, Key.make(Kind.ACCOUNT)), key, "alice")


def test_a_credential_signs_and_knows_its_time() -> None:
    key = Key.make(Kind.USER)
    credential = Credential.parse(content(key, expires=NOW + 3 * HOUR), "x")
    assert (credential.issued, credential.expires) == (NOW, NOW + 3 * HOUR)
    assert credential.due == NOW + 2 * HOUR
    assert not credential.is_expired
    assert len(base64.b64decode(credential.sign("nonce"))) == 64
    assert credential.seed not in repr(credential)
    old = Credential.parse(content(key, issued=NOW - HOUR, expires=NOW), "x")
    assert old.is_expired
    for_ever = Credential.parse(content(key), "x")
    assert (for_ever.due, for_ever.is_expired) == (None, False)


def damaged() -> list[str]:
    whole = content(Key.make(Kind.USER))
    token = whole.split("JWT-----")[1].split()[0]
    seed = whole.split("SEED-----")[1].split()[0]
    return [
        "",
        "nothing of the kind",
        whole.replace(seed, ""),
        whole.replace(seed, seed[:-4]),
        whole.replace(seed, f"{seed[:-1]}é"),
        whole.replace(token, "a.b.c"),
        whole.replace(token, "abc"),
        whole.replace(token, f"a.{base64.urlsafe_b64encode(b'[]').decode()}.c"),
    ]


def test_what_is_no_credential_is_said_without_showing_it() -> None:
    for text in damaged():
        with pytest.raises(ConfigError, match="here holds") as caught:
            Credential.parse(text, "here")
        assert len(str(caught.value)) < 50


def test_a_server_that_was_too_slow_has_not_refused_us() -> None:
    told = {"Authorization Violation": True, "User Authentication Expired": True}
    for words, refused in {**told, "Authentication Timeout": False}.items():
        assert is_refusal(nats.errors.Error(f"nats: '{words}'")) is refused


async def test_a_file_may_be_replaced_and_be_away_for_a_while(tmp_path: Path) -> None:
    path, key = tmp_path / "alice.creds", Key.make(Kind.USER)
    source = FileSource(path)
    with pytest.raises(ConfigError, match=r"cannot read .*alice\.creds: No such file"):
        await source.have()
    path.write_text(first := content(key, expires=NOW + HOUR))
    await source.have()
    assert not await source.renew()
    path.unlink()
    assert source.show() == Credential.parse(first, "x")
    with pytest.raises(ConfigError):
        await source.renew()
    path.write_text(second := content(key, expires=NOW + 2 * HOUR))
    assert await source.renew()
    assert source.show() == Credential.parse(second, "x")


def test_a_broker_stands_for_credentials_servers_and_authority() -> None:
    environ = {"PBSCAST_BROKER": "/run/b", "PBSCAST_CREDS": ""}
    settings = Settings.read(environ=environ)
    assert (settings.broker, settings.creds, settings.servers) == (Path("/run/b"), None, ())
    named = Settings.read("a", environ=environ)
    assert (named.broker, named.servers) == (Path("/run/b"), ("nats://a",))
    assert Settings.read(creds="c", environ=environ).broker is None
    beside = Settings.read(environ={**environ, "PBSCAST_CREDS": "c"})
    assert (beside.broker, beside.creds) == (None, Path("c"))
    other = Settings.read(broker="/b", environ={**environ, "PBSCAST_CREDS": "c"})
    assert (other.broker, other.creds) == (Path("/b"), None)
    with pytest.raises(ConfigError, match="not both"):
        Settings.read(creds="c", broker="b", environ={})
