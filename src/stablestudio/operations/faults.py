"""Why there is no backup, or why it is not put in place."""

from __future__ import annotations

from stablestudio.errors import StudioError


class BackupFault(StudioError):
    """A backup was not made or not restored; nothing was changed."""

    status = 400
    hint = "Correct what is named above and run the command again."


class BackupExists(BackupFault):
    """There is something of this name already."""

    hint = "Choose another name: a backup never replaces one."


class BackupNotMade(BackupFault):
    """The backup could not be written."""

    hint = "Make room, or choose another place, and run the command again."


class BackupMissing(BackupFault):
    """There is no backup here."""


class BackupDamaged(BackupFault):
    """The backup is not what it was when it was made; nothing of it was put in place."""

    hint = "Take another copy of it, or another backup."


class BackupNotRestored(BackupFault):
    """The backup could not be put in place; the place is empty again."""

    hint = "Make room, or mend what is named above, and run the command again."


class RestoreUncertain(BackupFault):
    """The restore was cut off from its database; whether it came to its end is not known, and its files are left as they are."""

    hint = "Run the command again when the database answers: it ends what is whole, and begins anew otherwise."


class BackupOfNewerVersion(BackupFault):
    """The backup was made by a newer version of this program."""

    hint = "Restore it with the version that made it, or a newer one."


class PlaceNotEmpty(BackupFault):
    """A backup is restored into an empty place only."""

    hint = "Move what is there out of the way, or name another folder with --data; another database in the settings."


class DatabaseDiffers(BackupFault):
    """The database of this backup is of another kind than the settings say."""

    hint = "Set `database` to an empty PostgreSQL for a stablestudio.dump, and to nothing for a stablestudio.db."


class StorageDiffers(BackupFault):
    """The files of this backup are elsewhere than the settings say."""

    hint = "Set `storage` as it was when the backup was made: a folder, or the bucket that holds the files."
