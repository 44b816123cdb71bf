"""DashScope's asynchronous tasks, as its documents and its client have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.providers.fakes.tasks import TaskVendor, Turn, bearer
from tests.providers.loopback import Answer, Request

_SYNTHESIS = "/services/aigc/video-generation/video-synthesis"


def fault(status: int, code: str, message: str = "no", **headers: str) -> Answer:
    """Return an error as DashScope writes it."""
    return Answer(status=status, json={"code": code, "message": message, "request_id": "4909100c"}, headers=headers)


class FakeDashScope(TaskVendor):
    tasks: set[str]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tasks = set()

    def course(self) -> Sequence[Mapping[str, Any]]:
        return [{"task_status": "PENDING"}, {"task_status": "RUNNING"}, {"task_status": "SUCCEEDED"}]

    def is_known(self, request: Request) -> bool:
        return bearer(request)

    def refuse(self) -> Answer:
        return fault(401, "InvalidApiKey", "Invalid API-key provided.")

    def is_submission(self, request: Request) -> bool:
        return request.method == "POST" and request.path == _SYNTHESIS

    def accept(self, request: Request, number: int) -> Answer:
        if request.headers.get("x-dashscope-async") != "enable":
            return fault(403, "AccessDenied", "current user api does not support synchronous calls.")
        task = f"0385dc79-5ff8-4d82-bcb6-{number:012}"
        self.tasks.add(task)
        return Answer(json={"output": {"task_status": "PENDING", "task_id": task}, "request_id": "4909100c"})

    def tell(self, request: Request) -> Turn:
        if self.polls:
            return self.polls.pop(0)
        if request.path == "/tasks/":
            return Answer(json={"request_id": "x", "total": 0, "page_no": 1, "page_size": 1, "tasks": []})
        task = request.path.split("/")[2]
        if task not in self.tasks:
            return Answer(json={"request_id": "x", "output": {"task_id": task, "task_status": "UNKNOWN"}})
        if request.path.endswith("/cancel"):
            return self._cancel(task)
        output = {"task_id": task, **self.state()}
        if output["task_status"] == "SUCCEEDED":
            output = {"video_url": self.result_url, "orig_prompt": "x", **output}
        return Answer(json={"request_id": "caa62a12", "output": output, "usage": {"duration": 5, "SR": 720}})

    def _cancel(self, task: str) -> Answer:
        if self.states[0].get("task_status") != "PENDING":
            return fault(
                400, "UnsupportedOperation", "Failed to cancel the task, please confirm if the task is PENDING"
            )
        self.cancelled.append(task)
        return Answer(json={"request_id": "45ac7f13"})
