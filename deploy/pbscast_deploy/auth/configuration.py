"""What nats-server has to be told: whom it trusts, where accounts are kept, TLS, JetStream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbscast.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

STORE: Final = Path("/var/lib/nats/accounts")
"""Where nats-server keeps accounts, unless its configuration is changed."""

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

# For three servers: the same on each, with a server_name of its own. [stream] replicas = 3.
#cluster {
#  name: pbscast
#  listen: "0.0.0.0:6222"
#  routes: ["nats://nats1:6222", "nats://nats2:6222", "nats://nats3:6222"]
#  tls {
#    cert_file: "./tls/server.pem"
#    key_file: "./tls/server.key"
#    ca_file: "./tls/ca.pem"
#    verify: true
#  }
#}

# For servers at the sites (leaf.conf) to connect to.
#leafnodes {
#  listen: "0.0.0.0:7422"
#  tls {
#    cert_file: "./tls/server.pem"
#    key_file: "./tls/server.key"
#  }
#}

include ./auth.conf
"""

_LEAF: Final = """\
# nats-server at a site, a leaf node of the hub. Who is at the site connects here, as to the hub;
# requests and pulls go there. Start it in place of nats-server.conf, after changing addresses.
# Accounts have to be told to it as well: pbscastd auth push --server URL
server_name: pbscast-site
listen: "0.0.0.0:4222"
max_payload: 8MB

tls {{
  cert_file: "./tls/server.pem"
  key_file: "./tls/server.key"
  timeout: 5
}}

jetstream {{
  store_dir: "/var/lib/nats"
  sync_interval: always
  domain: site
}}

leafnodes {{
  remotes: [
    {{
      url: "tls://nats1:7422"
      # Made by: pbscastd auth issue leaf --role service --out leaf.creds
      credentials: "./leaf.creds"
      account: {pbs}
      tls {{
        ca_file: "./tls/ca.pem"
      }}
    }}
  ]
}}

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


def leaf_conf(pbs: str) -> str:
    """Return the configuration of a site's server, given the id of the account PBS."""
    return _LEAF.format(pbs=pbs)


def auth_conf(operator: str, system: str, preload: Mapping[str, str], store: Path) -> str:
    """Return the part that says whom the server trusts, given tokens by account."""
    lines = "\n".join(f"  {account}: {token}" for account, token in preload.items())
    return _AUTH.format(operator=operator, system=system, store=store, preload=lines)


def with_preload(configuration: str, preload: Mapping[str, str]) -> str:
    """Return it with these tokens by account, and all else as somebody may have changed it.

    Raises ConfigError where it has no place for one.
    """
    for account, token in preload.items():
        line = re.compile(rf"^(\s*{account}\s*[:=]?\s*)\S+[ \t]*$", re.MULTILINE)
        configuration, found = line.subn(rf"\g<1>{token}", configuration)
        if not found:
            raise ConfigError(f"no line of resolver_preload is for {account}: put it in")
    return configuration
