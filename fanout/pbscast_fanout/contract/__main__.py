"""Write the files: ``python -m pbscast_fanout.contract DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path

from pbscast_fanout.contract.files import files

if len(sys.argv) != 2:
    sys.exit("usage: python -m pbscast_fanout.contract DIRECTORY")
for name, text in files().items():
    path = Path(sys.argv[1], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
