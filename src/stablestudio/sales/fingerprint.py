"""The fingerprint of a request: what a payment is bound to, so that it buys this and nothing else."""

from __future__ import annotations

import hashlib
import json

from pydantic_core import from_json


def fingerprint(method: str, path: str, body: bytes) -> str:
    """Hash method, path and the body's meaning: key order and white space of the JSON do not matter."""
    try:
        # This reader has a limit of depth of its own: Python's is the interpreter's, which libraries raise.
        canonical = json.dumps(from_json(body), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except ValueError:
        canonical = body.hex()
    return hashlib.sha256(f"{method}\n{path}\n{canonical}".encode()).hexdigest()
