"""Options files and recipes to begin with; a wheel carries them, a clone has them in `export_configs/`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["template_names", "template_text"]

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "export_configs", _PACKAGE.parent / "export_configs")
_FOLDER = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])


def template_names(kind: str) -> list[str]:
    """`medium-x2` and the like, sorted.

    Args:
        kind: `train` or `recipe`.
    """
    stems = sorted(path.stem for path in _FOLDER.glob(f"{kind}_*.toml"))
    return [stem.removeprefix(f"{kind}_").replace("_", "-") for stem in stems]


def template_text(kind: str, name: str) -> str:
    """The file's text.

    Args:
        kind: see `template_names`.
        name: one of those names.
    """
    return (_FOLDER / f"{kind}_{name.replace('-', '_')}.toml").read_text(encoding="utf-8")
