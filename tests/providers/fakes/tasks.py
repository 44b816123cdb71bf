"""What the fakes of vendors with tasks share: a counter of submissions, states that follow each other, and files."""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tests.media_samples import usual_clip
from tests.providers.loopback import Answer, Loopback, Request, Silence, serving

KEY = "sk-test"
Turn = Answer | Silence


class TaskVendor(ABC):
    """A vendor on the loopback, with a store of files on another port. Every submission that it reads is in `orders`.

    `instead` are answers to submissions that are not taken, `after` answers to some that are, in turn; `states` is what a
    task says, in turn, the last for ever; `file` is what it makes, of the type `content_type`, at `result_url`.
    """

    def __init__(
        self,
        *,
        instead: Sequence[Turn] = (),
        after: Sequence[Turn] = (),
        states: Sequence[Mapping[str, Any]] | None = None,
        polls: Sequence[Turn] = (),
        file: bytes | None = None,
        content_type: str = "video/mp4",
        result_url: str | None = None,
    ) -> None:
        self.instead = list(instead)
        self.after = list(after)
        self.polls = list(polls)
        self.states = list(states if states is not None else self.course())
        self.file = file if file is not None else usual_clip()
        self.content_type = content_type
        self._result_url = result_url
        self.orders: list[Request] = []
        self.cancelled: list[str] = []
        self.downloads: list[Request] = []
        self.url = self._store = ""
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Loopback]:
        async with serving(self.answer) as server, serving(self._hand_out) as store:
            self.url, self._store = server.url, store.url
            yield server

    @property
    def result_url(self) -> str:
        return self._result_url or f"{self._store}/result"

    @abstractmethod
    def course(self) -> Sequence[Mapping[str, Any]]:
        """Return the states of a task that goes well."""

    @abstractmethod
    def is_submission(self, request: Request) -> bool:
        """Tell whether a request asks for work."""

    @abstractmethod
    def accept(self, request: Request, number: int) -> Answer:
        """Take the work and answer as the vendor does."""

    @abstractmethod
    def tell(self, request: Request) -> Turn:
        """Answer any other request."""

    @abstractmethod
    def is_known(self, request: Request) -> bool:
        """Tell whether a request has the key."""

    @abstractmethod
    def refuse(self) -> Answer:
        """Answer a request without the key."""

    def answer(self, request: Request) -> Turn:
        if not self.is_known(request):
            return self.refuse()
        if not self.is_submission(request):
            return self.tell(request)
        self.orders.append(request)
        if self.instead:
            return self.instead.pop(0)
        accepted = self.accept(request, next(self._numbers))
        return self.after.pop(0) if self.after else accepted

    def _hand_out(self, request: Request) -> Answer:
        """Answer as the store of files, another host, which must never see the key."""
        self.downloads.append(request)
        return Answer(body=self.file, headers={"content-type": self.content_type})

    def state(self) -> Mapping[str, Any]:
        """Return what a task says next."""
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


def bearer(request: Request) -> bool:
    return request.headers.get("authorization") == f"Bearer {KEY}"
