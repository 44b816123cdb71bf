"""Python imports this at its start where the folder is on PYTHONPATH: it writes whom the process contacts into a file."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from tests.contacts import answering, ears
from tests.hostile_targets import ANSWERS

# Connections of this loop are made outside of Python, where nobody hears them.
sys.modules["uvloop"] = None  # type: ignore[assignment]

if place := os.environ.get("CONTACTS"):
    file = Path(place).open("a", buffering=1)  # noqa: SIM115 - it is open as long as the process lives
    ears.append(lambda told: file.write(f"{told}\n"))
    socket.getaddrinfo = answering(ANSWERS)
