"""Manifests, config files and neosr options of anybody's making: an answer or one line, whatever is in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.precisions.variant import variants
from tests.helpers.commands import Ran
from tests.helpers.neosr_checkout import make_photos
from tests.helpers.networks import calm, save
from tests.helpers.strangers import inputs, require_answer
from tests.test_header import engine_bytes

Call = Callable[..., Ran]

# What stands where something else is expected.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [-1, 0, 2**31, 2**63, 10**400, "", "\x1b[2J", "a\nerror: b", "x" * 5000, [], {}, [[]], [1], {"a": 1}]
    ),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value inside a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield (*path, key)
        yield from places(inside, (*path, key))


@st.composite
def changed(draw: st.DrawFn, document: dict[str, Any]) -> Any:
    """A document with one to three values replaced, removed or put in beside others."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        every = list(places(document))
        if not every:
            break
        *path, last = draw(st.sampled_from(every))
        holder: Any = document
        for key in path:
            holder = holder[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "replace":
            holder[last] = copy.deepcopy(draw(VALUES))
        elif how == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=5))] = copy.deepcopy(draw(VALUES))
        else:
            holder.append(copy.deepcopy(draw(VALUES)))
    return document


@dataclass(frozen=True, repr=False)  # hypothesis prints what it was given
class Model:
    """A file, and what its manifest should hold."""

    path: Path
    values: dict[str, Any]

    @property
    def report(self) -> list[object]:
        """The command that reads every field of the manifest, and shows one small picture."""
        return ["report", self.path, "--images", self.path.parent / "photos", "--overwrite"]

    def write(self, manifest: Any) -> None:
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self.path.with_name(f"{self.path.name}.json").write_bytes(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """An fp16 file, and an engine that is all header, each with its manifest."""
    folder = tmp_path_factory.mktemp("manifests")
    make_photos(folder / "photos", (24, 16))
    checkpoint = save(calm(scale=2, embed_dim=4, depths=(1,), lk_kernel=3, sk_kernel=3), folder / "2x_T.pth")
    (onnx,) = export_model(checkpoint, ExportOptions(variants=variants(("fp16",)), output=folder))
    values = json.loads((folder / f"{onnx.path.name}.json").read_text())
    engine = folder / "2x_T.engine"
    engine.write_bytes(engine_bytes())
    shape = [1, 3, 32, 32]
    end = {"name": "input", "dtype": "FLOAT", "shape": [-1, 3, -1, -1]}
    described = {
        "flavour": "tensorrt-rtx",
        "version": "1.7.1.116",
        "compute_capabilities": ["sm86"],
        "profiles": [{"min": shape, "opt": shape, "max": shape, "activation_bytes": {"opt": 1, "max": 2}}],
        "workspace": None,
        "build_seconds": 0.5,
        "network": {"inputs": [end], "outputs": [end], "layers": 3, "types": {"HALF": 3}, "strongly_typed": True},
        "header": {"magic": "vtrt", "version": "1.7.1.116", "bytes": 64, "compute_capabilities": ["sm86"]},
        "onnx": {**values["artifact"], "parity": values["parity"]},
        "executed": False,
    }
    from aether_deploy.proof.manifest import describe_artifact

    built = {
        **values,
        "artifact": describe_artifact(engine, "engine"),
        "shapes": dict.fromkeys(("min", "opt", "max"), shape),
    }
    del built["parity"]
    return {"onnx": Model(onnx.path, values), "engine": Model(engine, {**built, "engine": described})}


class TestManifests:
    @pytest.mark.parametrize("kind", ["onnx", "engine"])
    def test_as_it_was_written(self, kind: str, made: Any, call: Call) -> None:
        made[kind].write(made[kind].values)
        model = made[kind].path
        assert require_answer(lambda: call("inspect", model), model.parent).code == 0
        assert require_answer(lambda: call(*made[kind].report), model.parent).code == 0

    @pytest.mark.parametrize("kind", ["onnx", "engine"])
    @settings(max_examples=inputs(70))
    @given(st.data())
    def test_changed(self, kind: str, made: Any, call: Call, data: st.DataObject) -> None:
        made[kind].write(data.draw(changed(made[kind].values)))
        model = made[kind].path
        ran = require_answer(lambda: call("inspect", model), model.parent)
        if ran.code == 0 and data.draw(st.integers(0, 11)) == 0:
            # What is accepted can be used.
            require_answer(lambda: call(*made[kind].report), model.parent)

    @settings(max_examples=inputs(50))
    @given(st.one_of(st.binary(max_size=60), VALUES.map(lambda v: json.dumps(v).encode())))
    def test_something_else(self, made: Any, call: Call, text: bytes) -> None:
        made["onnx"].write(text)
        model = made["onnx"].path
        assert require_answer(lambda: call("inspect", model), model.parent).code == 1

    @pytest.mark.parametrize(
        "text", [b"[" * 100_000, b'{"schema": 1' + b"1" * 5000 + b"}", b'{"schema": 2}', b" " * (1 << 25), b"\xff\xfe"]
    )
    def test_deep_long_and_binary(self, made: Any, call: Call, text: bytes) -> None:
        made["onnx"].write(text)
        model = made["onnx"].path
        assert require_answer(lambda: call("inspect", model), model.parent).code == 1


OPTIONS = [
    "format",
    "precision",
    "opset",
    "output",
    "json",
    "static",
    "gpu",
    "workspace",
    "img-range",
    "name",
    "images",
]


def written(folder: Path, values: dict[str, Any]) -> Path | None:
    """A TOML file with these values; None where TOML has no such value."""
    try:
        text = tomlkit.dumps(values)
    except (ValueError, TypeError, UnicodeError):
        return None
    folder.mkdir(exist_ok=True)
    (folder / "x.toml").write_text(text, encoding="utf-8", errors="replace")
    return folder / "x.toml"


class TestConfigs:
    @settings(max_examples=inputs(100))
    @given(st.dictionaries(st.one_of(st.sampled_from(OPTIONS), st.text(max_size=5)), VALUES, max_size=3))
    def test_of_export(
        self, tmp_path_factory: pytest.TempPathFactory, made: Any, call: Call, values: dict[str, Any]
    ) -> None:
        folder = tmp_path_factory.getbasetemp() / "configs"
        checkpoint = made["onnx"].path.with_name("2x_T.pth")
        if config := written(folder, values):
            require_answer(lambda: call("export", checkpoint, "--dry-run", "--config", config), folder)

    @settings(max_examples=inputs(100))
    @given(st.data())
    def test_of_neosr(
        self, tmp_path_factory: pytest.TempPathFactory, made: Any, call: Call, data: st.DataObject
    ) -> None:
        network = {"type": "aether", "embed_dim": 4, "depths": [1], "lk_kernel": 3, "sk_kernel": 3, "img_range": 1.0}
        folder = tmp_path_factory.getbasetemp() / "options"
        checkpoint = made["onnx"].path.with_name("2x_T.pth")
        if options := written(folder, data.draw(changed({"scale": 2, "network_g": network}))):
            require_answer(lambda: call("inspect", checkpoint, "--opt", options), folder)
