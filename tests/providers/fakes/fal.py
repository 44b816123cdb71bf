"""fal's queue, as its documents and its client have it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.providers.fakes.tasks import KEY, TaskVendor, Turn
from tests.providers.loopback import Answer, Request

_REQUEST = re.compile(r"/[^/]+/[^/]+/requests/(?P<id>[0-9a-f-]+)(?P<verb>/status|/cancel)?")


def fault(status: int, kind: str, *, where: Sequence[str] = ("body", "prompt"), **headers: str) -> Answer:
    """Return an error of a model as fal writes it."""
    detail = [{"loc": list(where), "msg": "no", "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}]
    told = {"x-fal-request-id": "r", "x-fal-retryable": "false", **headers}
    return Answer(status=status, json={"detail": detail}, headers=told)


class FakeFal(TaskVendor):
    applications: dict[str, str]

    def __init__(
        self, *, result: Answer | None = None, acceptance: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Answer with `result` in place of an output; `acceptance` changes what an acceptance says."""
        super().__init__(**options)
        self._result = result
        self._acceptance = acceptance or {}
        self.applications = {}

    def course(self) -> Sequence[Mapping[str, Any]]:
        return [
            {"status": "IN_QUEUE", "queue_position": 2},
            {"status": "IN_PROGRESS", "logs": None},
            {"status": "COMPLETED", "logs": None, "metrics": {"inference_time": 3.7}},
        ]

    def is_known(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Key {KEY}"

    def refuse(self) -> Answer:
        return Answer(status=401, json={"detail": "No user found for Key ID and Secret"})

    def is_submission(self, request: Request) -> bool:
        return request.method == "POST"

    def accept(self, request: Request, number: int) -> Answer:
        name = f"{number:08x}-0000-4000-8000-000000000000"
        application = request.path.strip("/")
        self.applications[name] = application
        owner, alias = application.split("/")[:2]
        place = f"{self.url}/{owner}/{alias}/requests/{name}"
        told = {
            "status": "IN_QUEUE",
            "request_id": name,
            "response_url": place,
            "status_url": f"{place}/status",
            "cancel_url": f"{place}/cancel",
            "queue_position": 0,
        }
        return Answer(json={**told, **self._acceptance})

    def tell(self, request: Request) -> Turn:
        if self.polls:
            return self.polls.pop(0)
        match = _REQUEST.fullmatch(request.path)
        if match is None or match["id"] not in self.applications:
            return Answer(status=404, json={"detail": "Request not found"})
        match match["verb"]:
            case "/status":
                state = dict(self.state())
                return Answer(status=200 if state["status"] == "COMPLETED" else 202, json=state)
            case "/cancel":
                return self._cancel(match["id"])
            case _:
                return self._result or Answer(json=self._output(), headers={"x-fal-request-id": match["id"]})

    def _cancel(self, name: str) -> Answer:
        if self.states[0]["status"] == "COMPLETED":
            return Answer(status=400, json={"status": "ALREADY_COMPLETED"})
        self.cancelled.append(name)
        return Answer(status=202, json={"status": "CANCELLATION_REQUESTED"})

    def _output(self) -> Mapping[str, Any]:
        file = {"url": self.result_url, "content_type": self.content_type}
        return {"video": file} if self.content_type.startswith("video/") else {"images": [file], "seed": 1}
