"""docs/backup.md tells the commands, members and words that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from stablestudio.cli import backup as backup_command
from stablestudio.cli.app import COMMANDS
from stablestudio.cli.restore import restore
from stablestudio.config import Settings
from stablestudio.media.room import NoRoom
from stablestudio.media.storage import StorageUnavailable
from stablestudio.operations import manifest
from stablestudio.payments.errors import StoreUnavailable
from stablestudio.store import backup
from stablestudio.store.refunds import RESTORED

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()


def test_every_command_of_the_page_exists() -> None:
    assert (
        set(re.findall(r"^stablestudio (\w+)", PAGE, re.MULTILINE)) == {"backup", "restore", "audit"} <= set(COMMANDS)
    )
    options = {option for parameter in restore.params for option in parameter.opts}
    assert set(re.findall(r"`(--stopped)`", PAGE)) <= options
    assert (backup_command.INCOMPLETE, "| 1 | it was made, but" in PAGE) == (1, True)


def test_every_member_is_told() -> None:
    told = re.findall(
        r"^\| `([\w./]+)` \| [a-z]", PAGE.partition("## What is in it")[2].partition("Not in it")[0], re.MULTILINE
    )
    assert told == [backup.FILE, manifest.SECRET, manifest.FILES, manifest.SUMS, manifest.MANIFEST]
    assert f"`{backup.DUMP}`" in PAGE


def test_the_words_of_a_full_disk_are_the_code_s() -> None:
    for error in (NoRoom, StorageUnavailable, StoreUnavailable):
        assert f"`{error.status} {error.code}`" in PAGE
    assert Settings.model_fields["min_free_bytes"].default == 500_000_000
    assert "(500 MB; 0 for no" in PAGE
    assert f"`{RESTORED}`" in PAGE
