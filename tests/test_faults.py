"""A full disk, something in the way, another file system, several runs at once: one line, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aether_deploy.artifacts.opening import known_file
from tests.helpers.commands import Ran, error_line
from tests.helpers.crashes import Ended
from tests.helpers.places import COMMANDS, Place, contents, left_behind, places
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with places(tmp_path_factory.mktemp("faults")) as place:
        yield place


def line_of(ended: Ended) -> str:
    assert ended.code == 1, (ended.code, ended.err)
    return error_line(Ran(ended.code, "", ended.err))


# Bytes that fit nothing that the command writes.
LARGEST = {"report": 2000, "folder": 200, "video": 1000}


# Of each kind of result one is always tried: a file, a folder, a video, a page.
_DISKS = ["export", "folder", "video", "report"]


@pytest.mark.parametrize("name", first_of([*_DISKS, *sorted({*COMMANDS} - {"engine", *_DISKS})], 4))
def test_a_full_disk(name: str, place: Place) -> None:
    """Real, but for its reason: the system refuses to let a file grow."""
    line = line_of(place.fresh(name, largest=LARGEST.get(name, 1000)))
    assert "File too large" in line or "pictures failed" in line
    # Finished parts of a video are kept: the same command goes on from them.
    kept = [path for path in left_behind(place) if ".parts" in str(path)]
    assert contents(place.out).keys() <= {str(path.relative_to(place.out)) for path in kept}
    assert left_behind(place) == kept and (not kept or name == "video")


def test_a_full_disk_under_the_record_of_a_folder(place: Place) -> None:
    assert "File too large" in line_of(place.fresh("folder", largest=20))
    assert not list(place.out.iterdir())


IN_THE_WAY = {
    "export": ["2x_T_fp32_op20.onnx.json", "2x_T_fp32_op20.onnx"],
    "folder": ["astronaut.png"],
    "fuse": ["2x_T_fused.pth.json"],
    "report": ["page.html/2x_T.onnx.html"],
    "video": ["v.mkv"],
}


@pytest.mark.parametrize(
    ("name", "way"), first_of([(name, way) for name, ways in IN_THE_WAY.items() for way in ways], 3)
)
def test_a_folder_in_the_way(name: str, way: str, place: Place) -> None:
    shutil.rmtree(place.out)
    (place.out / way).mkdir(parents=True)
    ended = place.server.run(*COMMANDS[name](place), folder=place.out)
    line_of(ended)
    assert set(contents(place.out)) <= ({"chelsea.png", "coffee.png"} if name == "folder" else set())
    assert (place.out / way).is_dir()
    assert not left_behind(place)


NOWHERE = [
    (name, where)
    for name in ("export", "folder", "fuse", "report", "video")
    for where in ("/sys/aether", "{given}/2x_T.pth/sub")
]


@pytest.mark.parametrize(("name", "where"), first_of(NOWHERE, 4))
def test_where_nothing_can_be_written(name: str, where: str, place: Place) -> None:
    nowhere = Place(place.server, place.scratch, place.given, Path(where.format(given=place.given)))
    line_of(place.server.run(*COMMANDS[name](nowhere), folder=place.out))
    assert not left_behind(place)


def test_another_file_system(place: Place) -> None:
    """Nothing is renamed across file systems: what is staged stands beside its place."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == place.given.stat().st_dev:
        pytest.skip("no second file system here")
    there = memory / f"aether-test-{os.getpid()}"
    there.mkdir()
    try:
        elsewhere = Place(place.server, place.scratch, place.given, there)
        assert place.server.run(*COMMANDS["fuse"](elsewhere), folder=there).code == 0
        assert known_file(there / "2x_T_fused.pth").matches
    finally:
        shutil.rmtree(there)


def test_a_link_in_the_way_is_replaced_and_not_followed(place: Place) -> None:
    shutil.rmtree(place.out)
    place.out.mkdir()
    precious = place.scratch / "precious"
    precious.write_text("mine")
    (place.out / "2x_T_fused.pth").symlink_to(precious)
    assert place.server.run(*COMMANDS["fuse"](place), "--overwrite", folder=place.out).code == 0
    assert precious.read_text() == "mine"
    assert known_file(place.out / "2x_T_fused.pth").matches
    precious.unlink()


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.long)])
def test_several_runs_into_one_folder(count: int, place: Place) -> None:
    """Two networks under one name: whichever is there in the end has its own manifest, and so at every moment."""
    shutil.rmtree(place.out)
    place.out.mkdir()
    target = place.out / "f.pth"
    for _ in range(3):
        commands: list[list[object]] = [
            ["fuse", place.given / f"2x_{('T', 'Other')[number % 2]}.pth", "-o", target, "--overwrite"]
            for number in range(count)
        ]
        for ended in place.server.race(*commands, folder=place.out):
            assert ended.code == 0, ended.err
        assert known_file(target).matches
    assert not left_behind(place)


def test_two_runs_into_one_folder_of_pictures(place: Place) -> None:
    shutil.rmtree(place.out)
    ended = place.server.race(COMMANDS["folder"](place), COMMANDS["folder"](place), folder=place.out)
    assert [one.code for one in ended] == [0, 0], ended
    assert set(contents(place.out)) == {"astronaut.png", "chelsea.png", "coffee.png"}
    assert not left_behind(place)


@pytest.mark.long
def test_the_same_bytes_everywhere(place: Place, tmp_path: Path) -> None:
    """In other processes, folders, with other numbers of threads and other hash seeds; manifests differ in the time."""
    seen = []
    for number, threads in (("1", "1"), ("2", "2")):
        out = tmp_path / number
        environment = {**os.environ, "PYTHONHASHSEED": number, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        given = str(place.given / "2x_T.pth")
        commands = [["fuse", given, "-o", str(out / "f.pth")], ["export", given, "-o", str(out), "--precision", "fp16"]]
        code = f"from aether_deploy.cli import main\nfor c in {commands}: main(c, standalone_mode=False)"
        folder = place.scratch if number == "1" else ROOT
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=folder, env=environment)
        manifests = {path.name: json.loads(path.read_text()) for path in out.glob("*.json")}
        for manifest in manifests.values():
            del manifest["created"]
        seen.append((contents(out), manifests))
    assert len(seen[0][0]) == 2
    assert seen[0] == seen[1]
