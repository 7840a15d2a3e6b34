"""What a recipe's output folder holds, and from which keys it was made: `.aether_deploy_run.json` in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aether_deploy.errors import AetherDeployError
from aether_deploy.files import replacing, sha256_of

__all__ = ["NAME", "Made", "Record", "read_record"]

NAME = ".aether_deploy_run.json"
_LARGEST = 1 << 24


class Made(BaseModel):
    """One step that was done.

    Attributes:
        made_of: key of what the files were made of.
        checked_by: key of what they were compared on; "" for files that are not compared.
        files: path relative to the output folder -> sha256.
        seconds: that making them took.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    made_of: str
    checked_by: str = ""
    files: dict[str, str]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    def whole(self, folder: Path) -> bool:
        """Whether every file is there, unchanged."""
        return all(_same(folder / name, sha256) for name, sha256 in self.files.items())


class Record(BaseModel):
    """Everything that was done.

    Attributes:
        recipe: key of everything that the last whole run depended on; "" if none was finished.
        steps: by name, in order.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    recipe: str = ""
    steps: dict[str, Made] = {}

    def write(self, folder: Path) -> None:
        """Writes it into the output folder, whole or not at all."""
        with replacing(folder / NAME) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def whole(self, folder: Path) -> bool:
        """Whether every file of every step is there, unchanged."""
        return all(made.whole(folder) for made in self.steps.values())


def read_record(folder: Path) -> Record:
    """The record of an output folder; an empty one if there is none, or if it is damaged: then all is made again.

    Raises:
        AetherDeployError: there is something else in its place.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > _LARGEST:
            return Record()
        return Record.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return Record()
    except OSError as error:
        raise AetherDeployError(f"{path}: cannot be read ({error.strerror}); move it away") from error


def _same(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False
