"""No body is too deep: a library that raises Python's limit of recursion must not let one end the process."""

from __future__ import annotations

import subprocess
import sys

_DEEP = """
import sys
from stablestudio.payments.tempo import pympp
before = sys.getrecursionlimit()
pympp.load()
assert sys.getrecursionlimit() == before, sys.getrecursionlimit()
sys.setrecursionlimit(100_000)
from stablestudio.sales.fingerprint import fingerprint
from stablestudio.providers.answers import Reply
assert len(fingerprint("POST", "/", b"[" * 1_000_000)) == 64
assert Reply(status=200, headers={}, body=b"[" * 1_000_000).document == {}
"""


def test_a_body_of_a_million_brackets_ends_no_process() -> None:
    done = subprocess.run([sys.executable, "-c", _DEEP], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
