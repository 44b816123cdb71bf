"""The committed bytecode is what the committed source compiles to, offline."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.chain.anvil import HERE, packages


@pytest.mark.npm
def test_the_committed_artifact_is_what_the_source_compiles_to() -> None:
    packages()
    compiled = subprocess.run(
        ["node", "contracts/compile.mjs"], cwd=HERE, capture_output=True, text=True, timeout=120, check=False
    )
    assert compiled.returncode == 0, compiled.stderr
    committed = json.loads((HERE / "contracts" / "artifact.json").read_text())
    assert json.loads(compiled.stdout) == committed, "run: node contracts/compile.mjs > contracts/artifact.json"
