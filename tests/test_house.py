"""The house: a room imports only rooms below it, no two modules import each other, and the map says what is there."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "aether_deploy"

# The one list of rooms, from the top floor down, that the map in ARCHITECTURE.md is made of. A line is a floor,
# whose rooms do not import each other.
FLOORS: tuple[dict[str, str], ...] = (
    {"commands": "fuse, export, inspect, parity ...: arguments, one library call, print"},
    {"cli": "what the commands share: options, config file, progress, tables, exit codes"},
    {"recipes": "the whole pipeline from one file; what did not change is not done again"},
    {"publishing": "a folder to publish: cards, pictures, hashes"},
    {"readers": "programs that read our files, each tried"},
    {"html_report": "the page that `report` writes", "timing": "what `benchmark` measures"},
    {"artifacts": "the files: formats, pipeline, opening, inspection"},
    {"engines": "TensorRT and TensorRT-RTX", "neosr_run": "runs of neosr in processes of its own"},
    {"locating": "the first layer that differs, and what each one costs"},
    {"proof": "cases, reference, figures and verdict, manifest"},
    {"pictures": "pictures, folders and videos through a network, in tiles"},
    {"runners": "PyTorch, ONNX Runtime, and half precision executed as its types say"},
    {"precisions": "how exact a file is, a row each, and the forms that a file can have"},
    {"graphs": "network -> ONNX, and one pass a file"},
    {"network": "definition, spec, checkpoint, fusion"},
    {"fusions": "layers that together are one convolution, a rule a file"},
    {"samples": "the packaged checkpoint and photos"},
    {"files": "hashes, options files, nothing half-written"},
    {
        "arrays": "the arrays that go through all of it",
        "errors": "what can go wrong",
        "extras": "how to install what is missing",
        "memory_limit": "a limit on what reading a file may take",
        "templates": "options files of trainings to begin with",
        "text": "names and messages made safe to show",
    },
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of everything in the package that runs in our own process."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        # The launcher runs in neosr's process and imports nothing of ours.
        if "launcher" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(module: str, path: Path) -> Iterator[str]:
    """Our modules that a file imports, for types and inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES or node.module in MODULES:
                    yield name if name in MODULES else node.module


def room(module: str) -> str:
    """The room that a module is in; what lies flat and is no room of its own is a command."""
    _, *rest = module.split(".")
    return rest[0] if rest and rest[0] in FLOOR_OF else "commands"


GRAPH = {module: set(imported(module, path)) - {module} for module, path in MODULES.items()}


def house_map() -> str:
    """The rooms as a listing, from the top floor down."""
    lines = ["aether_deploy/"]
    for floor in FLOORS:
        for name, what in floor.items():
            path = "*.py" if name == "commands" else f"{name}/" if (ROOT / PACKAGE / name).is_dir() else f"{name}.py"
            lines.append(f"  {path:14} {what}")
    return "\n".join(lines)


@pytest.mark.parametrize("page", ["ARCHITECTURE.md"])
def test_the_map_is_this_list(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = text.partition("<!-- house -->\n```\n")[2].partition("\n```\n<!-- /house -->")[0]
    assert shown == house_map()


def test_no_import_runs_upwards() -> None:
    upwards = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in sorted(others)
        if room(module) != room(other) and FLOOR_OF[room(module)] >= FLOOR_OF[room(other)]
    ]
    assert not upwards, "\n".join(upwards)


def test_no_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_room_is_there_and_no_other() -> None:
    packages = {module.split(".")[1] for module in MODULES if module.count(".") > 1}
    assert packages <= FLOOR_OF.keys()
    assert {name for name in FLOOR_OF if name != "commands"} <= {
        module.split(".")[1] for module in MODULES if "." in module
    }


def test_no_name_stands_twice() -> None:
    names = sorted(module.rpartition(".")[2] for module in MODULES)
    twice = [name for name, group in itertools.groupby(names) if len(list(group)) > 1]
    assert not twice, twice


def test_click_is_for_commands() -> None:
    with_click = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(alias.name == "click" for alias in node.names)
    }
    assert {room(module) for module in with_click} <= {"commands", "cli"}
