"""ONNX files from strangers: refused in one line, before they take memory or time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from aether_deploy.artifacts.inspection import describe_file
from aether_deploy.artifacts.opening import known_file
from aether_deploy.errors import AetherDeployError, RunnerError
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.runners.onnx_reading import read_onnx
from aether_deploy.runners.onnx_runtime import OnnxRunner
from tests.helpers.memory import memory_below
from tests.helpers.networks import SAMPLE
from tests.helpers.strange_onnx import image_graph


def _changed(change: Callable[[onnx.ModelProto], Any]) -> bytes:
    model = image_graph()
    change(model)
    data: bytes = model.SerializeToString()
    return data


def _last(op_type: str, inputs: list[str], *constants: onnx.TensorProto, **attributes: Any) -> bytes:
    """Another operator in the place of the last."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.extend(constants)
        model.graph.node[-1].CopyFrom(helper.make_node(op_type, inputs, ["output"], **attributes))

    return _changed(change)


def _numbers(name: str, *numbers: int) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)


def _with_metadata(**metadata: str) -> bytes:
    named = {f"aether_deploy.{key}": value for key, value in metadata.items()}
    return _changed(lambda model: helper.set_model_props(model, named))


def _elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    tensor.ClearField("raw_data")


def _shaped(*sides: int | str, kind: int = TensorProto.FLOAT) -> bytes:
    return _changed(lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", kind, list(sides))))


def _loop(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Loop"
    model.graph.node[-1].attribute.append(helper.make_attribute("body", image_graph().graph))


def _network(**changed: Any) -> str:
    return json.dumps({**load_checkpoint(SAMPLE).spec.as_fused().as_dict(), **changed})


def _renamed(old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    data: bytes = image_graph().SerializeToString()
    return data.replace(old, new)


CRAFTED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it has no nodes"),
    "text": (b"no protobuf at all, this", "cannot be read as ONNX"),
    "a million nodes": (b"\x3a\x80\x89\x7a" + b"\x0a\x00" * 1_000_000, "1000000 nodes, more than any network"),
    "a million names": (b"\x3a\x80\x89\x7a" + b"\x5a\x00" * 999_998 + b"\x0a\x02\x0a\x00", "parts"),
    "data elsewhere": (_changed(_elsewhere), "in another file"),
    "endless": (_changed(_loop), "control flow"),
    "no text": (_renamed(b"Conv", b"Co\xff\xfe"), "no text that can be shown"),
    "control characters": (_renamed(b"Conv", b"\x1b[3m"), "no text that can be shown"),
    "too little data": (_changed(lambda m: m.graph.initializer[0].dims.append(2**40)), "bytes of data, expected"),
    "another size": (_last("ReduceMean", ["large"]), "expected N and C as they were"),
    "8 GB of zeros": (
        _last("ConstantOfShape", ["n"], _numbers("n", 1, 3, 2**15, 2**16)),
        "needs too much memory",
    ),
    "tiled": (
        _last("Tile", ["large", "n"], _numbers("n", 1, 1, 1000, 300)),
        "needs too much memory",
    ),
    "fixed and huge": (_shaped(1, 3, 200_000, 200_000), "expected at most 67108864 pixels"),
    "no fixed channels": (_shaped("n", "c", "h", "w"), "C a number"),
    "nothing": (_shaped(1, 3, 0, 8), "its input is"),
    "integers": (_shaped("n", 3, "h", "w", kind=TensorProto.UINT8), "cannot load it"),
    "three dimensions": (_shaped(3, "h", "w"), "cannot load it"),
    "another precision": (_with_metadata(precision="fp3\n"), r"precision 'fp3\n' in its metadata; known: fp32"),
    "no JSON": (_with_metadata(network="{"), "no JSON"),
    "deep JSON": (_with_metadata(network="[" * 100_000), "no JSON"),
    "a list": (_with_metadata(network="[]"), "no object"),
    "senseless": (_with_metadata(network=_network(depths=[10**9])), "depths of the network"),
    "another scale": (_with_metadata(network=_network(scale=4)), "x2 with 3 channels, but its metadata says x4"),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_file_is_one_line(tmp_path: Path, what: str) -> None:
    data, says = CRAFTED[what]
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    began = time.monotonic()
    with memory_below(700), pytest.raises(RunnerError) as caught:
        OnnxRunner(path, threads=1)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert time.monotonic() - began < 5


def test_what_was_not_changed_runs(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(_with_metadata(network=_network()))
    with OnnxRunner(tmp_path / "net.onnx") as runner:
        assert runner.scale == 2
        assert runner.spec == load_checkpoint(SAMPLE).spec.as_fused()


def test_a_fixed_shape_gets_the_memory_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(_shaped(1, 3, 2048, 2048))
    with OnnxRunner(tmp_path / "net.onnx") as runner:
        assert runner.static == (1, 3, 2048, 2048)


def test_a_report_refuses_what_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(_with_metadata(network="{"))
    with pytest.raises(AetherDeployError, match="no JSON"):
        describe_file(known_file(tmp_path / "net.onnx"))


def test_the_bytes_are_the_files(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(image_graph().SerializeToString())
    assert read_onnx(tmp_path / "net.onnx").data == (tmp_path / "net.onnx").read_bytes()
