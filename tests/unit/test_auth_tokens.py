from __future__ import annotations

import base64
import json
from pathlib import Path

import nkeys  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pbscast.errors import ConfigError, DecodeError
from pbscast_deploy.auth.keys import Key, Kind, is_public, keyless_account, verify
from pbscast_deploy.auth.tokens import credentials, decode, encode, token_of

KEY = Key.make(Kind.ACCOUNT)
TOKEN = encode({"sub": "U", "name": "alice", "iat": 1, "nats": {"type": "user"}}, KEY)


@pytest.mark.parametrize(("kind", "letter"), [("OPERATOR", "O"), ("ACCOUNT", "A"), ("USER", "U")])
def test_a_key_says_what_it_is_for(kind: str, letter: str) -> None:
    key = Key.make(Kind[kind])
    assert key.public[0] == letter
    assert key.seed[:2] == b"S" + letter.encode()
    assert is_public(key.public)
    assert nkeys.from_seed(key.seed).public_key.decode() == key.public
    assert Key(key.seed).kind is Kind[kind]


def test_a_mistyped_key_is_noticed() -> None:
    letter = "A" if KEY.public[20] != "A" else "B"
    assert not is_public(KEY.public[:20] + letter + KEY.public[21:])
    assert not is_public(KEY.public[:-1])
    seed = KEY.seed.decode()
    for wrong in (seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:], seed[:-4], "", "nope"):
        with pytest.raises(ValueError, match="not the seed of an NKey"):
            Key(wrong.encode())


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.nk"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Key.load(path).public == KEY.public
    with pytest.raises(FileExistsError):
        KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Key.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Key.load(tmp_path / "none")


def test_no_seed_is_shown() -> None:
    assert KEY.seed.decode() not in repr(KEY) + str(KEY)


def test_anybody_can_check_a_token() -> None:
    body, _, signature = TOKEN.rpartition(".")
    raw = base64.b32decode(KEY.public)[1:-2]
    Ed25519PublicKey.from_public_bytes(raw).verify(
        base64.urlsafe_b64decode(signature + "=="), body.encode()
    )
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "===")) for part in body.split(".")
    )
    assert header == {"typ": "JWT", "alg": "ed25519-nkey"}
    assert claims["iss"] == KEY.public
    assert claims["nats"] == {"type": "user", "version": 2}
    assert decode(TOKEN) == claims


@given(st.integers(0, len(TOKEN) - 2), st.sampled_from("AZaz09-_.=é"))
def test_a_changed_token_is_refused(place: int, letter: str) -> None:
    if TOKEN[place] != letter:
        with pytest.raises(DecodeError):
            decode(TOKEN[:place] + letter + TOKEN[place + 1 :])


@given(st.text())
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(text)


def test_a_token_of_another_algorithm_is_refused() -> None:
    _, claims, _ = TOKEN.split(".")
    header = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').decode().rstrip("=")
    signature = base64.urlsafe_b64encode(KEY.sign(f"{header}.{claims}".encode())).decode()
    with pytest.raises(DecodeError):
        decode(f"{header}.{claims}.{signature.rstrip('=')}")


def test_a_signature_of_another_is_none() -> None:
    assert verify(KEY.public, b"m", KEY.sign(b"m"))
    assert not verify(Key.make(Kind.ACCOUNT).public, b"m", KEY.sign(b"m"))
    assert not verify("nobody", b"m", KEY.sign(b"m"))
    assert not verify(KEY.public, b"m", b"short")


def test_a_credentials_file_has_token_and_seed() -> None:
    key = Key.make(Kind.USER)
    content = credentials(TOKEN, key, "alice")
    assert token_of(content) == TOKEN
    assert key.seed.decode() in content
    with pytest.raises(DecodeError):
        token_of("nothing")


def test_everybody_knows_whose_account_is_which() -> None:
    ids = {keyless_account(*names) for names in (("a", "bc"), ("ab", "c"), ("abc",))}
    assert len(ids) == 3
    assert all(map(is_public, ids))
    assert keyless_account("user", "alice") == keyless_account("user", "alice")
