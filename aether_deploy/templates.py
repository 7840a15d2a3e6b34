"""Options files of neosr trainings to begin with; a wheel carries them, a clone has them in `export_configs/`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["template_names", "template_text"]

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "export_configs", _PACKAGE.parent / "export_configs")
_FOLDER = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])


def template_names() -> list[str]:
    """`medium-x2` and the like, sorted."""
    return [path.stem.removeprefix("train_").replace("_", "-") for path in sorted(_FOLDER.glob("train_*.toml"))]


def template_text(name: str) -> str:
    """The text of one of those."""
    return (_FOLDER / f"train_{name.replace('-', '_')}.toml").read_text(encoding="utf-8")
