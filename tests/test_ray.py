"""Several workers on a real Ray: the same bytes as one process, whoever dies."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from aether_deploy.artifacts.opening import files_of, known_file, open_runner, open_upscaler
from aether_deploy.errors import RunnerError
from aether_deploy.pictures.batch_run import plan_folder, upscale_folder
from aether_deploy.pictures.folder_record import RECORD
from aether_deploy.pictures.images import Picture, read_picture, write_picture
from aether_deploy.pictures.ray_pool import Network, RayPool, Workers
from aether_deploy.pictures.ray_worker import Worker
from aether_deploy.pictures.upscaling import Upscaler
from aether_deploy.pictures.video import VideoOptions, upscale_video
from aether_deploy.pictures.video_parts import Frame
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import save, tiny
from tests.helpers.videos import encode

pytestmark = pytest.mark.slow

COUNT = 24


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny(), tmp_path_factory.mktemp("network") / "2x_Tiny.pth")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small ones in a tree, and a bad one."""
    root = tmp_path_factory.mktemp("pictures") / "in"
    photo = read_picture(PHOTOS / "coffee.png").pixels
    (root / "sub").mkdir(parents=True)
    for index in range(COUNT):
        write_picture(root / ("sub" if index % 3 else "") / f"{index:02}.png", Picture(photo[index : index + 16, :20]))
    (root / "bad.png").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Network:
    opening = functools.partial(open_upscaler, overlap="auto")
    return Network(files_of(known_file(checkpoint)), Worker, opening, "cpu")


@pytest.fixture(scope="module")
def alone(checkpoint: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes."""
    output = tmp_path_factory.mktemp("alone")
    upscale_folder(Upscaler(open_runner(checkpoint)), plan_folder(pictures, output), output, model="m")
    return tree(output)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two machines, as far as Ray knows, of one core each."""
    yield from _two_machines()


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """Another two, one of which will go."""
    yield from _two_machines()


def _two_machines() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Slow(RayPool):
    """A pool that does something once three pictures are done."""

    then: Callable[[], None] = staticmethod(lambda: None)

    def map(self, *words: Any, **how: Any) -> Iterator[Any]:
        for number, done in enumerate(super().map(*words, **how)):
            if number == 3:
                self.then()
            yield done


def workers_of(pool: RayPool) -> list[int]:
    return [int(ray.get(worker.pid.remote(), timeout=60)) for worker in pool._plans]


class TestOnTwoMachines:
    @pytest.mark.long
    def test_a_folder(
        self, cluster: Cluster, network: Network, pictures: Path, alone: dict[str, bytes], tmp_path: Path
    ) -> None:
        with RayPool(Workers(cluster.address, 2), network) as pool:
            jobs = plan_folder(pictures, tmp_path / "out")
            result = upscale_folder(pool, jobs, tmp_path / "out", model="m")
        assert tree(tmp_path / "out") == alone
        assert len(result.written) == COUNT
        ((source, reason),) = result.failures
        assert source.name == "bad.png" and str(source) in reason
        assert 0 < result.share.value <= 1
        # And in one process it goes on, as if it had been its own.
        again = upscale_folder(Upscaler(open_runner(network.files[0])), jobs, tmp_path / "out", model="m")
        assert (len(again.skipped), len(again.written)) == (COUNT, 0)

    def test_a_killed_worker_costs_its_own_tasks_only(
        self, cluster: Cluster, network: Network, pictures: Path, alone: dict[str, bytes], tmp_path: Path
    ) -> None:
        with Slow(Workers(cluster.address, 2), network) as pool:
            pool.then = lambda: os.kill(workers_of(pool)[0], signal.SIGKILL)
            result = upscale_folder(pool, plan_folder(pictures, tmp_path / "out"), tmp_path / "out", model="m")
        assert len(result.failures) == 1
        assert tree(tmp_path / "out") == alone

    @pytest.mark.long
    def test_a_machine_that_goes(
        self, mortal: Cluster, network: Network, pictures: Path, alone: dict[str, bytes], tmp_path: Path
    ) -> None:
        nodes = mortal.list_all_nodes()  # type: ignore[no-untyped-call]
        other = next(node for node in nodes if node is not mortal.head_node)
        with Slow(Workers(mortal.address, 2), network) as pool:
            pool.then = lambda: mortal.remove_node(other, allow_graceful=False)
            result = upscale_folder(pool, plan_folder(pictures, tmp_path / "out"), tmp_path / "out", model="m")
        assert len(result.failures) == 1
        assert tree(tmp_path / "out") == alone

    @pytest.mark.long
    def test_a_video(self, cluster: Cluster, network: Network, tmp_path: Path) -> None:
        source = encode(tmp_path / "in.mkv", frames=11)
        upscale_video(Upscaler(open_runner(network.files[0])), source, tmp_path / "alone.mkv", VideoOptions(part=4))
        with Slow(Workers(cluster.address, 2), network) as pool:
            pool.then = lambda: os.kill(workers_of(pool)[1], signal.SIGKILL)
            result = upscale_video(pool, source, tmp_path / "out.mkv", VideoOptions(part=4))
        assert result.frames == 11
        assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "alone.mkv").read_bytes()


class TestOnThisMachine:
    def test_the_command(
        self, checkpoint: Path, pictures: Path, alone: dict[str, bytes], tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        words = ("upscale", checkpoint, pictures, "-o", tmp_path / "out", "--workers", 2, "--device", "cpu", "--json")
        ran = call(*words)
        assert ran.code == 1  # the bad picture
        assert "1 of 25 pictures failed" in error_line(ran)
        assert ran.json["runner"] == "torch float32 CPU, 2 workers"
        assert tree(tmp_path / "out") == alone

    @pytest.mark.long
    def test_a_task_that_kills_every_worker_is_listed(self, network: Network) -> None:
        with RayPool(Workers("", 1), network) as pool:
            (done,) = pool.map("frame", [("bad", (_Deadly(),))])
        assert (done.task, done.error) == ("bad", "its worker died 3 times; see to its memory")

    @pytest.mark.long
    def test_a_killed_run_goes_on(
        self, checkpoint: Path, pictures: Path, alone: dict[str, bytes], tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        words = ["upscale", checkpoint, pictures, "-o", tmp_path / "out", "--workers", 1, "--device", "cpu"]
        command = [sys.executable, "-m", "aether_deploy", *map(str, words)]
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(tree(tmp_path / "out")) < 3 and started.poll() is None:
            time.sleep(0.02)
        started.kill()
        started.wait()
        assert 3 <= len(tree(tmp_path / "out")) < COUNT
        assert call(*words).code == 1
        assert tree(tmp_path / "out") == alone

    @pytest.mark.long
    def test_a_network_that_cannot_be_opened(self, network: Network, tmp_path: Path) -> None:
        (tmp_path / "bad.pth").write_bytes(b"none")
        with pytest.raises(RunnerError, match="no PyTorch checkpoint"):
            RayPool(Workers("", 1), Network((tmp_path / "bad.pth",), Worker, network.open, "cpu"))
        assert not ray.is_initialized()

    @pytest.mark.long
    def test_a_device_for_each(self, network: Network) -> None:
        with RayPool(Workers("", 0, ("cpu", "cpu")), network) as pool:
            frames = [Frame(Picture(np.full((4, 4, 3), level, np.uint8)), level) for level in range(9)]
            found = list(pool.map("frame", (("", (frame,)) for frame in frames), ordered=True))
        assert (pool.count, pool.scale) == (2, 2)
        assert [done.result.pts for done in found] == list(range(9))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--devices", "cpu,cuda:x"), "expected auto, cpu, cuda"),
        (("--devices", "cpu", "--workers", "2"), "leave --workers and --on out"),
        # Ray itself waits for half a minute.
        pytest.param(("--on", "ray://127.0.0.1:1"), "Ray at ray://127.0.0.1:1", marks=pytest.mark.long),
    ],
)
def test_what_cannot_be(
    options: tuple[str, ...], said: str, checkpoint: Path, pictures: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    ran = call("upscale", checkpoint, pictures, "-o", tmp_path / "out", *options)
    assert ran.code in (1, 2) and said in ran.err


def test_one_picture_needs_no_workers(checkpoint: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("upscale", checkpoint, PHOTOS / "coffee.png", "-o", tmp_path / "a.png", "--workers", 1)
    assert "for a folder or a video" in error_line(ran)


class _Deadly:
    """Kills whoever looks at its picture."""

    @property
    def picture(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return None
