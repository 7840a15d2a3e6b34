"""A file in every reader that is installed here, and readers that do it wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from aether_deploy.readers import trial
from aether_deploy.readers.reader import READERS, Reader, RefusedError
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import SAMPLE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., Ran]) -> Path:
    """A model repository with the sample."""
    folder = tmp_path_factory.mktemp("repository")
    assert call("export", SAMPLE, "-o", folder, "--format", "triton").code == 0
    return folder / "2x_aether_sample_fp32"


def verdicts(ran: Ran) -> dict[str, dict[str, Any]]:
    return {row["reader"]: row for row in ran.json["readers"]}


def test_every_reader(repository: Path, call: Callable[..., Ran]) -> None:
    ran = call("conform", repository / "1" / "model.onnx", "--json")
    assert ran.code == 0, ran.err
    found = verdicts(ran)
    assert list(found) == [reader.name for reader in READERS if "onnx" in reader.kinds]
    for name in ("ONNX Runtime", "vs-mlrt, ONNX Runtime", "TensorRT-RTX, its parser", "chaiNNer, its rules"):
        assert found[name]["verdict"] == "works", found[name]
    assert found["Triton, its configuration"]["verdict"] == "works"
    assert {row["verdict"] for row in found.values()} <= {"works", "refuses", "not here"}
    # Its converter has no LayerNormalization.
    assert found["vs-mlrt, ncnn"]["verdict"] in ("refuses", "not here")


class TestWrong:
    @pytest.fixture
    def only(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Leaves one reader, an odd one."""

        def leave(function: str) -> None:
            row = Reader("odd", ("onnx",), "tests.helpers.odd_readers", function, "odd-reader")
            monkeypatch.setattr(trial, "READERS", (row,))

        return leave

    @pytest.mark.parametrize(
        ("function", "said"),
        [("darker", "2 of an 8-bit level"), ("black", "of an 8-bit level"), ("small", "its output is")],
    )
    def test_another_picture(
        self, function: str, said: str, repository: Path, only: Callable[[str], None], call: Callable[..., Ran]
    ) -> None:
        only(function)
        ran = call("conform", repository / "1" / "model.onnx", "--json")
        assert ran.code == 3
        assert "another picture in odd" in error_line(ran)
        row = verdicts(ran)["odd"]
        assert (row["verdict"], said in row["detail"]) == ("differs", True)

    @pytest.mark.parametrize(
        ("function", "verdict", "said"),
        [
            ("deadly", "refuses", "its process died (-11)"),
            ("raising", "refuses", "no such operator"),
            ("absent", "not here", "pip install odd-reader"),
        ],
    )
    def test_one_that_does_not_run(
        self,
        function: str,
        verdict: str,
        said: str,
        repository: Path,
        only: Callable[[str], None],
        call: Callable[..., Ran],
    ) -> None:
        only(function)
        row = verdicts(call("conform", repository / "1" / "model.onnx", "--json"))["odd"]
        assert (row["verdict"], said in row["detail"]) == (verdict, True)


def _other_configuration(repository: Path) -> None:
    config = repository / "config.pbtxt"
    config.write_text(config.read_text().replace("[ 3, -1, -1 ]", "[ 4, -1, -1 ]"))


def _second_output(repository: Path) -> None:
    path = repository / "1" / "model.onnx"
    model = onnx.load(path)
    model.graph.output.append(model.graph.output[0])
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "name"), [(_other_configuration, "triton"), (_second_output, "chainner")], ids=["Triton", "chaiNNer"]
)
def test_rules_close(damage: Callable[[Path], None], name: str, tmp_path: Path, call: Callable[..., Ran]) -> None:
    import numpy as np

    assert call("export", SAMPLE, "-o", tmp_path, "--format", "triton").code == 0
    place = tmp_path / "2x_aether_sample_fp32"
    damage(place)
    row = next(item for item in READERS if item.function == name)
    with pytest.raises(RefusedError):
        row.read(place / "1" / "model.onnx", np.zeros((1, 3, 8, 8), np.float32))


def test_what_nobody_reads(call: Callable[..., Ran]) -> None:
    assert "no reader of a PyTorch checkpoint" in error_line(call("conform", SAMPLE))
