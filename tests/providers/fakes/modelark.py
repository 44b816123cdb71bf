"""ModelArk's content generation tasks, as its documents and its client's types have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.doubles import NOW_MS
from tests.providers.fakes.tasks import TaskVendor, Turn, bearer
from tests.providers.loopback import Answer, Request

_TASKS = "/contents/generations/tasks"


def fault(status: int, code: str, message: str = "no", **headers: str) -> Answer:
    """Return an error as ModelArk writes it."""
    error = {"code": code, "message": message, "param": "", "type": "BadRequest"}
    return Answer(status=status, json={"error": error}, headers={"x-request-id": "0217", **headers})


class FakeModelArk(TaskVendor):
    tasks: dict[str, dict[str, Any]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tasks = {}
        self.lists = 0

    def course(self) -> Sequence[Mapping[str, Any]]:
        return [{"status": "queued"}, {"status": "running"}, {"status": "succeeded"}]

    def is_known(self, request: Request) -> bool:
        return bearer(request)

    def refuse(self) -> Answer:
        return fault(401, "AuthenticationError", "The API key in the request is missing or invalid.")

    def is_submission(self, request: Request) -> bool:
        return request.method == "POST" and request.path == _TASKS

    def accept(self, request: Request, number: int) -> Answer:
        task = f"cgt-20261120-{number}"
        body = request.json
        self.tasks[task] = {
            "id": task,
            "model": body["model"],
            "safety_identifier": body.get("safety_identifier"),
            "created_at": NOW_MS // 1000 + number,
        }
        return Answer(json={"id": task})

    def tell(self, request: Request) -> Turn:
        if self.polls:
            return self.polls.pop(0)
        if request.path == _TASKS:
            return self._page(int(request.query["page_num"]), int(request.query["page_size"]))
        task = self.tasks.get(request.path.removeprefix(_TASKS + "/"))
        if task is None:
            return fault(404, "ResourceNotFound", "the task is not found")
        if request.method == "DELETE":
            self.cancelled.append(task["id"])
            return Answer(json={})
        state = dict(self.state())
        if state["status"] == "succeeded":
            state.setdefault("content", {"video_url": self.result_url})
            state.setdefault("usage", {"completion_tokens": 108900, "total_tokens": 108900})
        return Answer(json={**task, "updated_at": task["created_at"] + 9, **state})

    def _page(self, number: int, size: int) -> Answer:
        self.lists += 1
        newest = sorted(self.tasks.values(), key=lambda task: -task["created_at"])
        items = newest[(number - 1) * size : number * size]
        return Answer(json={"items": [{**item, "status": "running"} for item in items], "total": len(newest)})
