"""Node's packages for tests: installed by name into the folder that names them, once, by whichever worker is first."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def install(folder: Path) -> Path:
    """Install what `folder/package.json` names; skip the test without Node, except in CI, where that is a failure."""
    if shutil.which("node") is None:
        if "CI" in os.environ:
            pytest.fail("Node.js is missing")
        pytest.skip("Node.js is missing")
    wanted = (folder / "package.json").read_text()
    modules = folder / "node_modules"
    modules.mkdir(exist_ok=True)
    stamp = modules / ".installed"
    with (modules / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
            subprocess.run(npm, cwd=folder, check=True, timeout=600)
            stamp.write_text(wanted)
    return modules
