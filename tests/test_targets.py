"""GPU names, and what is refused with what to use instead."""

from __future__ import annotations

import pytest

from aether_deploy.engines.targets import NAMES, RTX_CAPABILITIES, SM75, ComputeCapability, check_rtx, parse_gpus
from aether_deploy.errors import EngineError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["sm86,sm89", "sm120"], ["sm86", "sm89", "sm120"]),
        (["rtx30", "rtx40,rtx50"], ["sm86", "sm89", "sm120"]),
        (["Turing"], ["sm75"]),
        (["rtx50,sm86,sm_120,8.6"], ["sm86", "sm120"]),
        (["sm121"], ["sm121"]),
        (["current"], ["sm89"]),
    ],
)
def test_names(names: list[str], expected: list[str]) -> None:
    assert [str(item) for item in parse_gpus(names, current=ComputeCapability(8, 9))] == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rtx4", "did you mean 'rtx40'"),
        ("current", "no GPU with a driver is here"),
        ("", "no GPU named"),
        ("voodoo", "known: sm75"),
    ],
)
def test_no_such_gpu(name: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        parse_gpus([name])


@pytest.mark.parametrize("name", ["sm90", "h100", "hopper", "b200"])
def test_data_center_gpus_are_told_what_to_use(name: str) -> None:
    with pytest.raises(
        EngineError, match=r"TensorRT-RTX has no sm(90|100).*--format tensorrt,.*CUDA execution provider"
    ):
        check_rtx(parse_gpus([name]), ffn="linear")


def test_old_gpus_are_told_what_to_use() -> None:
    with pytest.raises(EngineError, match="before Turing take --format onnx"):
        check_rtx(parse_gpus(["sm61"]), ffn="linear")


def test_turing_needs_convolutions() -> None:
    check_rtx([SM75], ffn="conv1x1")
    with pytest.raises(EngineError, match="add --ffn conv1x1"):
        check_rtx([SM75], ffn="linear")


def test_every_family_is_buildable_or_refused_by_name() -> None:
    for name, capability in NAMES.items():
        if capability not in RTX_CAPABILITIES:
            with pytest.raises(EngineError, match=str(capability)):
                check_rtx(parse_gpus([name]), ffn="conv1x1")
