"""The three tables: what derives from them, and what is in no row is refused by name."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import onnx_ir as ir
import pytest

from aether_deploy.artifacts.formats import EXPORTS, FORMATS, FormatModule, format_of
from aether_deploy.cli.app import main
from aether_deploy.errors import CheckpointError
from aether_deploy.graphs.passes import PASSES
from aether_deploy.network import aether_spec
from aether_deploy.network.aether import read_spec
from aether_deploy.network.definition import arch
from aether_deploy.network.families import FAMILIES, family_of, recognise, spec_from_dict
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.tolerances import TOLERANCES
from tests.helpers.networks import tiny


def _choices(command: str, option: str) -> list[str]:
    found = main.get_command(click.Context(main), command)
    assert found is not None
    (parameter,) = (item for item in found.params if option in item.opts)
    assert isinstance(parameter.type, click.Choice)
    return list(parameter.type.choices)


class TestFormats:
    def test_the_command_offers_those_that_are_exported(self) -> None:
        assert (
            _choices("export", "--format")
            == list(EXPORTS)
            == [
                "onnx",
                "tensorrt",
                "tensorrt-rtx",
                "triton",
                "triton-tensorrt",
                "web",
                "ncnn",
            ]
        )

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_rows_module_has_what_is_asked_of_it(self, name: str) -> None:
        row, methods = FORMATS[name], {"plan", "export", "open_file", "describe", "findings"}
        wanted = methods if row.exported else methods - {"plan", "export"}
        for method in wanted:
            given = inspect.signature(getattr(row.maker, method))
            (_, *expected) = inspect.signature(getattr(FormatModule, method)).parameters
            assert list(given.parameters) == expected, method

    def test_files_are_known_by_their_suffix(self) -> None:
        for row in FORMATS.values():
            for suffix in row.suffixes:
                found = format_of(Path(f"x{suffix}"))
                assert found is not None
                assert found.kind == row.kind
        assert format_of(Path("x.txt")) is None


class TestPrecisions:
    def test_the_command_offers_all(self) -> None:
        assert _choices("export", "--precision") == list(PRECISIONS)

    @pytest.mark.parametrize("name", PRECISIONS)
    def test_a_row_is_whole(self, name: str) -> None:
        row = PRECISIONS[name]
        assert row.name == name
        # Between layers; those in 8 bits have fp32 or half precision around them.
        around = "FLOAT" if row.quantizes else row.storage
        assert row.bytes == ir.DataType[row.half or around].itemsize
        assert TOLERANCES[name] is row.tolerance
        assert Variant(name).opset >= row.min_opset
        assert row.wider in (None, *PRECISIONS)


class TestFamilies:
    def test_aether_is_recognised_and_its_spec_survives_json(self) -> None:
        state_dict = tiny().state_dict()
        family = recognise(state_dict.keys())
        assert family is FAMILIES["aether"]
        spec, _ = family.read(state_dict)
        assert family_of(spec) is family
        assert spec_from_dict(spec.as_dict()) == spec

    def test_a_manifest_from_before_there_were_families(self) -> None:
        spec = read_spec(tiny().state_dict())
        values = {key: value for key, value in spec.as_dict().items() if key != "family"}
        assert spec_from_dict(values) == spec

    def test_another_network_is_spandrels_and_without_it_refused_by_its_keys(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert recognise(["body.0.weight"]) is FAMILIES["spandrel"]
        monkeypatch.setattr("aether_deploy.network.spandrel.is_installed", lambda name: False)
        with pytest.raises(CheckpointError, match=r"no AetherNet: .*\(first: body\.0\.weight\).*\[spandrel\]"):
            recognise(["body.0.weight"])
        with pytest.raises(CheckpointError, match="family 'other'"):
            spec_from_dict({"family": "other"})

    def test_its_passes_are_in_the_table(self) -> None:
        for family in FAMILIES.values():
            assert set(family.passes) <= PASSES.keys()

    def test_the_channels_of_the_tail_are_the_networks(self) -> None:
        assert arch.UPSAMPLE_CHANNELS == aether_spec._TAIL_CHANNELS
        assert read_spec(tiny().state_dict()).widths.tail == arch.UPSAMPLE_CHANNELS
