"""A command that is killed, anywhere: no artifact or a whole one with its manifest; a rerun leaves no trace of it."""

from __future__ import annotations

import functools
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aether_deploy.artifacts.formats import format_of
from aether_deploy.artifacts.opening import known_file
from tests.helpers.crashes import Ended
from tests.helpers.places import COMMANDS, Place, contents, left_behind, places
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

# What stands there already is asked about.
ASKED = {"fuse", "fuse to safetensors", "export", "export in half", "engine", "release", "video"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with places(tmp_path_factory.mktemp("crashes")) as place:
        yield place


@dataclass(frozen=True)
class Undisturbed:
    """What a command touches and makes if nobody disturbs it."""

    points: int
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> Callable[[str], Undisturbed]:
    @functools.cache
    def of(name: str) -> Undisturbed:
        ended = place.fresh(name)
        assert ended.code == 0, ended.err
        return Undisturbed(len(ended.points), contents(place.out))

    return of


def require_whole(place: Place, name: str) -> None:
    """Every artifact under a final name has its manifest; pictures, videos and pages have none."""
    for path in place.out.rglob("*"):
        if hidden(path.relative_to(place.out)) or path.suffix in (".json", ".log") or path.is_dir():
            continue
        if name in ("folder", "video", "report") or format_of(path) is None:
            continue
        assert known_file(path).matches, path


def check(place: Place, name: str, whole: dict[str, bytes], ended: Ended) -> None:
    """After a kill, and after the rerun."""
    assert "Traceback" not in ended.err, ended.err
    require_whole(place, name)
    seen = {key: data for key, data in contents(place.out).items() if not hidden(Path(key))}
    assert not differing(seen, whole)
    again = place.server.run(*COMMANDS[name](place), *(["--overwrite"] if name in ASKED else []), folder=place.out)
    assert again.code == 0, again.err
    after = contents(place.out)
    assert after.keys() == whole.keys()
    assert not differing(after, whole)
    assert not left_behind(place)


def hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def differing(files: dict[str, bytes], whole: dict[str, bytes]) -> list[str]:
    """Names of files that are not as they should be; a page holds the time, and TensorRT builds no engine twice."""
    return [
        key for key, data in files.items() if not key.endswith((".html", ".engine", ".log")) and data != whole.get(key)
    ]


@pytest.mark.parametrize("name", first_of(["fuse", "folder", "video", "run"], 3))
def test_killed_at_its_last_write_point(place: Place, name: str, undisturbed: Callable[[str], Undisturbed]) -> None:
    """When all but the last rename or deletion is done."""
    expected = undisturbed(name)
    check(place, name, expected.files, place.fresh(name, at=expected.points - 1))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("name", ["fuse", "folder"])
def test_asked_to_end_it_leaves_nothing(
    place: Place, name: str, number: signal.Signals, code: int, undisturbed: Callable[[str], Undisturbed]
) -> None:
    ended = place.fresh(name, at=undisturbed(name).points // 2, number=number)
    assert ended.code == code, ended.err
    assert not left_behind(place)


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_write_point(
    place: Place, name: str, number: signal.Signals, undisturbed: Callable[[str], Undisturbed]
) -> None:
    expected = undisturbed(name)
    for at in range(expected.points):
        check(place, name, expected.files, place.fresh(name, at=at, number=number))


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_time(place: Place, name: str, undisturbed: Callable[[str], Undisturbed]) -> None:
    expected, chance = undisturbed(name), random.Random(name)
    for _ in range(8):
        ended = place.fresh(name, after=chance.uniform(0.05, 4), number=chance.choice(SIGNALS))
        check(place, name, expected.files, ended)
