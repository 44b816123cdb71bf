"""A file or folder that is written under another name gets its own when it is whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_PRIVATE = 0o600
# What file systems answer that cannot do a thing, as on a stick or a network share.
_CANNOT = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def link(made: Path, target: Path) -> None:
    """Give a file a name that only one can have, which may leave it the old one too; raise `FileExistsError`.

    On a file system without links, an empty file has the name for a moment; who is killed in it leaves that there.
    """
    try:
        os.link(made, target)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        # Without links, the name is taken first, which only one can do.
        target.touch(mode=_PRIVATE, exist_ok=False)
        made.rename(target)


def settle(folder: Path) -> None:
    """Wait until the names in a folder would outlast a power cut, where its file system can tell."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)
