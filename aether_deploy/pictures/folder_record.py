"""A hidden JSON file that says what made a folder's results, so that only the same network resumes the run."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aether_deploy.errors import ImageError
from aether_deploy.files import replacing

__all__ = ["RECORD", "Record", "read_record", "write_record"]

RECORD = ".aether_deploy.json"
# Nanoseconds that a time stamp may lose: FAT counts in steps of two seconds.
_FAT = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """The run that made a folder.

    Attributes:
        made_by: see `Upscaler.identity`.
        created: when the run began, in nanoseconds by the clock of the folder's own file system.
        overwrite: whether older results are to be redone. They remain if such a run is killed, and the run that
            resumes it must not take them for its own.
    """

    made_by: dict[str, Any]
    created: int
    overwrite: bool

    def is_done(self, source: Path, target: Path) -> bool:
        """Whether an existing result is kept.

        One from before the run is, unless the run overwrites: what made it is unknown. One made by the run is, unless
        its picture was edited since.
        """
        try:
            made, changed = target.stat().st_mtime_ns, source.stat().st_mtime_ns
        except OSError:
            return False
        if made < self.created:
            return not self.overwrite
        # In the future: it has the date of its picture, see `batch_run`, and an edit dates that back to today.
        return abs(made - changed) < _FAT if made > time.time_ns() else made >= changed


def read_record(folder: Path, made_by: dict[str, Any]) -> Record | None:
    """The record of a folder; None if it has none.

    Raises:
        ImageError: the record is damaged, or the results were made by something else.
    """
    path = folder / RECORD
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        seen = {key: record.made_by[key] for key in made_by}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ImageError(f"{path}: no record of a run ({error!r}); give another --output, or --overwrite") from error
    if seen != made_by:
        changed = (
            f"{key} {str(seen[key])[:12]}, now {str(now)[:12]}" for key, now in made_by.items() if seen[key] != now
        )
        raise ImageError(
            f"{folder}: its results were made with {'; '.join(changed)}; "
            "give another --output, or --overwrite to make all of them again"
        )
    return record


def write_record(folder: Path, made_by: dict[str, Any], *, overwrite: bool) -> None:
    """Records, before the first result, what makes the results.

    Raises:
        AetherDeployError: the folder cannot be made or written.
    """
    with replacing(folder / RECORD) as temporary:
        record = Record(made_by, temporary.stat().st_mtime_ns, overwrite)
        temporary.write_text(json.dumps(dataclasses.asdict(record)) + "\n", encoding="utf-8")
