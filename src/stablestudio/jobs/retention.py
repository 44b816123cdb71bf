"""How long files are kept, as the operator has set it: a decision made once, when a job is complete, and told to the buyer."""

from __future__ import annotations

from dataclasses import dataclass

_DAY_MS = 86_400_000
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days by kind of file; 0 is for ever."""

    images: float = 0
    videos: float = 0

    def until(self, content_type: str, *, now_ms: int) -> int | None:
        """Return when a result that is complete now expires; None is never.

        It is a full minute, so that what is remembered of a job for a minute never shows a file that has expired.
        """
        days = self.videos if content_type.startswith("video/") else self.images
        return None if days == 0 else -(-(now_ms + round(days * _DAY_MS)) // _MINUTE_MS) * _MINUTE_MS
