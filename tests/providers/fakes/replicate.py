"""Replicate's predictions and files, as its documents and its client have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.doubles import NOW_MS
from tests.providers.fakes.tasks import TaskVendor, Turn, bearer
from tests.providers.loopback import Answer, Request

_PREDICTION = re.compile(r"/predictions/(?P<id>[a-z0-9]+)(?P<verb>/cancel)?")
_PAGE = 2


def fault(status: int, detail: str = "no", **headers: str) -> Answer:
    """Return an error as Replicate writes it."""
    return Answer(status=status, json={"title": "Error", "detail": detail, "status": status}, headers=headers)


class FakeReplicate(TaskVendor):
    def __init__(self, *, as_list: bool = False, uploads: Sequence[Turn] = (), **options: Any) -> None:
        """Answer with a list where `as_list`; `uploads` are answers to uploads in place of taking them."""
        super().__init__(**options)
        self._as_list = as_list
        self.uploads = list(uploads)
        self.files: list[Request] = []
        self.predictions: dict[str, dict[str, Any]] = {}

    def course(self) -> Sequence[Mapping[str, Any]]:
        return [
            {"status": "starting"},
            {"status": "processing", "logs": " 50%|█████     | 5/10 [00:01<00:01,  3.9it/s]"},
            {"status": "succeeded"},
        ]

    def is_known(self, request: Request) -> bool:
        return bearer(request)

    def refuse(self) -> Answer:
        return fault(401, "You did not pass a valid authentication token")

    def is_submission(self, request: Request) -> bool:
        return request.method == "POST" and request.path.endswith("/predictions")

    def accept(self, request: Request, number: int) -> Answer:
        name = f"gm3qorzdhgbfurvjtvhg6dckhu{number}"
        prediction = {
            "id": name,
            "model": request.path.removeprefix("/models/").removesuffix("/predictions"),
            "version": "hidden",
            "input": request.json["input"],
            "logs": "",
            "output": None,
            "error": None,
            "status": "starting",
            "created_at": datetime.fromtimestamp(NOW_MS / 1000 + number, UTC).isoformat().replace("+00:00", "Z"),
            "urls": {
                "get": f"{self.url}/predictions/{name}",
                "cancel": f"{self.url}/predictions/{name}/cancel",
            },
        }
        self.predictions[name] = prediction
        return Answer(status=201, json=prediction)

    def tell(self, request: Request) -> Turn:
        if self.polls:
            return self.polls.pop(0)
        if request.path == "/account":
            return Answer(json={"type": "organization", "username": "acme", "name": "Acme", "github_url": None})
        if request.path == "/files":
            return self._upload(request)
        if request.path == "/predictions":
            return self._page(int(request.query.get("cursor", "0")))
        match = _PREDICTION.fullmatch(request.path)
        if match is None or match["id"] not in self.predictions:
            return fault(404, "The requested resource could not be found.")
        if match["verb"]:
            self.cancelled.append(match["id"])
            return Answer(json={**self.predictions[match["id"]], "status": "canceled"})
        state = dict(self.state())
        if state["status"] == "succeeded":
            state.setdefault("output", [self.result_url] if self._as_list else self.result_url)
        return Answer(json={**self.predictions[match["id"]], **state})

    def _upload(self, request: Request) -> Turn:
        self.files.append(request)
        if self.uploads:
            return self.uploads.pop(0)
        name = f"f{len(self.files)}"
        return Answer(status=201, json={"id": name, "urls": {"get": f"{self.url}/files/{name}"}})

    def _page(self, start: int) -> Answer:
        newest = sorted(self.predictions.values(), key=lambda each: str(each["created_at"]), reverse=True)
        more = f"{self.url}/predictions?cursor={start + _PAGE}" if start + _PAGE < len(newest) else None
        return Answer(json={"previous": None, "next": more, "results": newest[start : start + _PAGE]})
