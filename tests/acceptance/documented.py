"""A check that schemathesis loads: an answer that only `default` covers is one of the few that any route may give."""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

# A browser's preflight; nothing here, another method, too large, another type of body, headers too large: these in the form of an error.
ANYWHERE = {204, 404, 405, 413, 415, 431}


@schemathesis.check
def listed_status(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Fail for a status that the operation does not list, nor its default answer in words."""
    document = case.operation.schema.raw_schema
    told = re.findall(r"\b(\d{3}):", document["components"]["responses"]["default"]["description"])
    listed = {int(status) for status in (*case.operation.definition.raw["responses"], *told) if status.isdecimal()}
    assert response.status_code in listed | ANYWHERE, f"{response.status_code} is not documented for {case.method}"
