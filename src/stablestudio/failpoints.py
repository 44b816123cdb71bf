"""Named places where a test may end the process, to prove that nothing is lost there.

`STABLESTUDIO_FAILPOINT=sale.claimed` makes the process kill itself the first time it gets there. Unset, a call is one comparison.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("STABLESTUDIO_FAILPOINT", "")


def reach(name: str) -> None:
    """Die here, as by `kill -9`, if this place is the armed one."""
    if name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
