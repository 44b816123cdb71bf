"""The clips of one worker: those that are on their way, and finished ones until nobody will come for them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from stablestudio.clock import Clock
from stablestudio.local.device import State, Task
from stablestudio.local.faults import NotFound
from stablestudio.local.orders import Order

_KEPT_MS = 3_600_000
_MOST_KEPT = 64
_ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip of the protocol."""

    id: str
    model: str
    order: Order
    created_at: int  # milliseconds
    task: Task

    def document(self) -> dict[str, Any]:
        """Return the protocol's `VideoResource`."""
        task, fault = self.task, self.task.fault
        return {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": task.state.value,
            "progress": 100 if task.state is State.DONE else task.progress,
            "created_at": self.created_at // 1000,
            "completed_at": None if task.ended_at is None else task.ended_at // 1000,
            "expires_at": None if task.ended_at is None else (task.ended_at + _KEPT_MS) // 1000,
            "size": f"{self.order.size[0]}x{self.order.size[1]}",
            "seconds": str(self.order.seconds),
            "prompt": self.order.prompt,
            "remixed_from_video_id": None,
            "error": None if fault is None else {"code": fault.code, "message": fault.message},
        }


class Clips:
    """The worker's memory; it ends with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._clips: dict[str, Clip] = {}  # the oldest first

    def add(self, task: Task, order: Order, *, model: str) -> Clip:
        """Take a new clip in, and forget old ones that have ended."""
        now = self._clock.now_ms()
        ended = [clip for clip in self._clips.values() if clip.task.state in _ENDED]
        for index, old in enumerate(reversed(ended)):
            if index + 1 >= _MOST_KEPT or (old.task.ended_at or now) + _KEPT_MS < now:
                del self._clips[old.id]
        clip = Clip(id=f"video_{secrets.token_hex(16)}", model=model, order=order, created_at=now, task=task)
        self._clips[clip.id] = clip
        task.future.add_done_callback(lambda _: task.note_end(self._clock.now_ms()))
        return clip

    def get(self, clip_id: str) -> Clip:
        """Return a clip. Raises `NotFound`."""
        if clip_id not in self._clips:
            raise NotFound(f"There is no video {clip_id[:80]!r} here (any more).", param="video_id")
        return self._clips[clip_id]

    def drop(self, clip_id: str) -> None:
        """Forget a clip that has ended; stop one that has not, which stays to tell so. Raises `NotFound`."""
        clip = self.get(clip_id)
        if clip.task.state in _ENDED:
            del self._clips[clip_id]
        else:
            clip.task.cancel()
