"""Triton's model repository: its own protocol buffers read it, and a client gets the picture that the file gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from aether_deploy.artifacts.opening import known_file, open_runner
from aether_deploy.pictures.upscale_any import upscale
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran
from tests.helpers.engines import ROOT
from tests.helpers.networks import SAMPLE, calm, save

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16"}


def read(config: Path) -> Any:
    """A configuration, as Triton parses it; unknown fields are errors."""
    return text_format.Parse(config.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize(
    ("options", "name", "batch"),
    [
        ((), "2x_Tiny_fp32", 8),
        (("--precision", "fp16", "--io", "fp16"), "2x_Tiny_fp16_io16", 8),
        (("--static", "2x3x16x24"), "2x_Tiny_fp32_2x3x16x24", 0),
    ],
)
def test_what_it_says_is_what_the_file_has(
    options: tuple[str, ...], name: str, batch: int, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    source = save(calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=5, sk_kernel=3), tmp_path / "2x_Tiny.pth")
    ran = call("export", source, "-o", tmp_path / "repository", "--format", "triton", *options, "--json")
    assert ran.code == 0, ran.err
    place = tmp_path / "repository" / name
    assert ran.json["artifacts"][0]["file"] == str(place / "1" / "model.onnx")
    written = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    assert written == ["1/model.onnx", "1/model.onnx.json", "config.pbtxt"]
    assert known_file(place / "1" / "model.onnx").matches

    config = read(place / "config.pbtxt")
    session = ort.InferenceSession(place / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert (config.name, config.backend, config.max_batch_size) == (name, "onnxruntime", batch)
    assert config.HasField("dynamic_batching") == (batch > 0)
    for said, has in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [end.name for end in said] == [end.name for end in has]
        assert [model_config_pb2.DataType.Name(end.data_type) for end in said] == [TYPES[end.type] for end in has]
        whole = [[-1] * (batch > 0) + list(end.dims) for end in said]
        assert whole == [[size if isinstance(size, int) else -1 for size in end.shape] for end in has]


def test_beside_the_file_itself(checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Made once, and copied."""
    ran = call("export", checkpoint_file, "-o", tmp_path, "--format", "onnx", "--format", "triton", "--json")
    first, second = (Path(item["file"]) for item in ran.json["artifacts"])
    assert first.read_bytes() == second.read_bytes()
    assert known_file(second).matches and known_file(first).matches
    assert call("verify", second.parent).code == 0


class _StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """One call of Triton's protocol, answered by ONNX Runtime as the repository's configuration says."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        place = self._repository / request.model_name
        config = read(place / "config.pbtxt")
        session = ort.InferenceSession(place / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        (given,), (asked,) = request.inputs, config.input
        assert (given.name, f"TYPE_{given.datatype}") == (
            asked.name,
            model_config_pb2.DataType.Name(asked.data_type),
        )
        assert len(given.shape) == 1 + len(asked.dims) and given.shape[0] <= config.max_batch_size
        lr = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(given.shape)
        (sr,) = session.run([config.output[0].name], {asked.name: lr})
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, raw_output_contents=[sr.tobytes()])
        answer.outputs.add(name=config.output[0].name, datatype="FP32", shape=sr.shape)
        return answer


@pytest.fixture
def served(tmp_path: Path, call: Callable[..., Ran]) -> Iterator[tuple[str, Path]]:
    """(address, repository) of a stand-in for Triton, with the sample in it."""
    repository = tmp_path / "repository"
    assert call("export", SAMPLE, "-o", repository, "--name", "Name", "--format", "triton").code == 0
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(1), options=unlimited)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_StandIn(repository), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", repository
    server.stop(None).wait()


@pytest.mark.slow
def test_the_client_of_the_page(served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, repository = served
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "triton.md").read_text(), re.DOTALL)
    assert "localhost:8001" in code
    monkeypatch.chdir(tmp_path)
    with Image.open(PHOTOS / "coffee.png") as photo:
        photo.crop((0, 0, 60, 40)).save("in.png")
    exec(code.replace("localhost:8001", address), {})
    with open_runner(repository / "2x_Name_fp32" / "1" / "model.onnx") as runner:
        upscale(runner, "in.png", "ours.png")
    with Image.open("out.png") as theirs, Image.open("ours.png") as ours:
        assert np.abs(np.asarray(theirs).astype(int) - np.asarray(ours)).max() <= 1
