"""The service answers as its own OpenAPI document says, whatever is sent: schemathesis, with a seed and an end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import Service

ROOT = Path(__file__).parents[2]
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "listed_status"),
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_route_answers_as_its_document_says(studio: Service, tmp_path: Path) -> None:
    options = {
        "--phases": "examples,coverage,fuzzing",
        "--checks": ",".join(CHECKS),
        "--max-examples": "1",
        "--seed": "1",
        "--generation-database": "none",
        "--request-timeout": "30",
    }
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{studio.url}/openapi.json", "--no-color"]
    ran = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in options.items())],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.acceptance.documented", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    cases = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
    assert cases is not None, ran.stdout
    assert int(cases[1]) == int(cases[2]) >= 500
