"""Named places where a test may end the process, to prove that nothing is lost there.

`STABLESTUDIO_FAILPOINT=sale.claimed` makes the process kill itself the first time it gets there, `sale.claimed=freeze` stop until
it is told to go on (SIGCONT). Unset, a call is one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

_ARMED, _, _HOW = os.environ.get("STABLESTUDIO_FAILPOINT", "").partition("=")


def reach(name: str) -> None:
    """Die here, as by `kill -9`, or freeze, if this place is the armed one."""
    if name == _ARMED:
        # To this very thread: another one that took the signal would let it run on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP if _HOW == "freeze" else signal.SIGKILL)
