"""What nats-server has to be told: whom it trusts, where accounts are kept, TLS, JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAIN: Final = """\
# nats-server for pbscast, with TLS and with accounts. Start it in this directory:
# nats-server --config nats-server.conf
# `pbscastd auth init` made this file, auth.conf and tls/: keep them together.
# Change this one as you need.
server_name: pbscast
listen: "0.0.0.0:4222"
# Events up to this size travel whole; larger ones travel without their largest values.
max_payload: 8MB

# Certificates of your own serve as well, and better: clients then need no ca.pem.
tls {
  cert_file: "./tls/server.pem"
  key_file: "./tls/server.key"
  timeout: 5
}

jetstream {
  store_dir: "/var/lib/nats"
  # Credentials name it: all servers that hold the streams have it, those at the sites have others.
  domain: hub
  # An acknowledged write is on disk.
  sync_interval: always
  max_file_store: 50GB
}

include ./auth.conf
"""

_AUTH: Final = """\
# Whom this server trusts, made by `pbscastd auth init`. No secret is in here.
operator: {operator}
system_account: {system}

# Accounts of persons come by `pbscastd auth issue`, `revoke` or `push`, and are kept here.
resolver {{
  type: full
  dir: "{store}"
  allow_delete: true
  interval: "2m"
}}

# What the server has to know before anybody can tell it anything.
resolver_preload {{
{preload}
}}
"""


def auth_conf(operator: str, system: str, preload: Mapping[str, str], store: Path) -> str:
    """Return the part that says whom the server trusts, given tokens by account."""
    lines = "\n".join(f"  {account}: {token}" for account, token in preload.items())
    return _AUTH.format(operator=operator, system=system, store=store, preload=lines)
