"""OpenRouter's video generation, as its documents and its client have it; it hands the files out itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.providers.fakes.tasks import TaskVendor, Turn, bearer
from tests.providers.loopback import Answer, Request


def fault(status: int, message: str = "no", **headers: str) -> Answer:
    """Return an error as OpenRouter writes it."""
    return Answer(status=status, json={"error": {"code": status, "message": message}}, headers=headers)


class FakeOpenRouter(TaskVendor):
    jobs: set[str]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.jobs = set()

    def course(self) -> Sequence[Mapping[str, Any]]:
        return [{"status": "pending"}, {"status": "in_progress"}, {"status": "completed"}]

    def is_known(self, request: Request) -> bool:
        return bearer(request)

    def refuse(self) -> Answer:
        return fault(401, "No auth credentials found")

    def is_submission(self, request: Request) -> bool:
        return request.method == "POST" and request.path == "/videos"

    def accept(self, request: Request, number: int) -> Answer:
        job = f"gen-vid-1795204441-{number:020}"
        self.jobs.add(job)
        return Answer(status=202, json={"id": job, "polling_url": f"/api/v1/videos/{job}", "status": "pending"})

    def tell(self, request: Request) -> Turn:
        if self.polls:
            return self.polls.pop(0)
        if request.path == "/key":
            return Answer(json={"data": {"label": "sk-or-v1-0e6...1c96", "limit_remaining": 74.5, "usage": 25.5}})
        job, _, rest = request.path.removeprefix("/videos/").partition("/")
        if job not in self.jobs:
            return fault(404, "Job not found")
        if rest == "content":
            return self._content()
        state = dict(self.state())
        if state["status"] == "completed":
            state |= {"unsigned_urls": [f"{self.url}/videos/{job}/content?index=0"], "usage": {"cost": 0.5}}
        return Answer(json={"id": job, "polling_url": f"/api/v1/videos/{job}", **state})

    def _content(self) -> Answer:
        if self._result_url is not None:
            return Answer(status=302, headers={"location": self._result_url})
        return Answer(body=self.file, headers={"content-type": self.content_type})
