"""JSON answers of the routes that are not hot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from stablestudio.server.http import CORS


def answer(body: Mapping[str, Any], *, status: int = 200) -> Response:
    """Return a JSON answer that browsers of any origin may read."""
    headers = {name.decode(): value.decode() for name, value in CORS}
    return Response(to_json(body), status_code=status, media_type="application/json", headers=headers)
