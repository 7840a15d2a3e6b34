"""Libraries that run a file, or parse it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.artifacts.web_runtime import NODE_FILES, write_runtime
from aether_deploy.errors import RunnerError
from aether_deploy.files import scratch
from aether_deploy.readers.reader import MissingError, RefusedError
from aether_deploy.runners.ncnn import require_ncnn

__all__ = ["ncnn", "ncnn_vulkan", "node", "onnxruntime", "openvino", "tensorrt_rtx"]

_NODE = """
import * as ort from "./ort.wasm.bundle.min.mjs";
import { readFile, writeFile } from "node:fs/promises";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = await readFile("ort-wasm-simd-threaded.wasm");
const { shape, type } = JSON.parse(await readFile("input.json", "utf8"));
const session = await ort.InferenceSession.create(await readFile("model.onnx"));
const data = await readFile("input.bin");
const values = type === "float16" ? new Uint16Array(data.buffer, data.byteOffset, data.length / 2)
  : new Float32Array(data.buffer, data.byteOffset, data.length / 4);
const { output } = await session.run({ input: new ort.Tensor(type, values, shape) });
await writeFile("output.bin", new Uint8Array(output.data.buffer, output.data.byteOffset, output.data.byteLength));
console.log(JSON.stringify({ shape: output.dims }));
"""


def onnxruntime(path: Path, lr: Array) -> Array:
    """With its defaults, as any program would."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return _called(lambda given: session.run(None, {session.get_inputs()[0].name: given})[0], path, lr)


def openvino(path: Path, lr: Array) -> Array:
    """On the CPU, in fp32."""
    try:
        import openvino as ov
    except ImportError as error:
        raise MissingError(str(error)) from error
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return _called(lambda given: compiled(given)[0], path, lr)


def node(path: Path, lr: Array) -> Array:
    """WebAssembly, as in a browser, without the browser."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        raise MissingError("node and npm are not here")
    kind = _input_type(path)
    with scratch("node") as folder:
        write_runtime(folder, NODE_FILES)
        (folder / "run.mjs").write_text(_NODE, encoding="utf-8")
        shutil.copyfile(path, folder / "model.onnx")
        (folder / "input.json").write_text(json.dumps({"shape": lr.shape, "type": kind}), encoding="utf-8")
        (folder / "input.bin").write_bytes(lr.astype(kind).tobytes())
        ran = subprocess.run([program, "run.mjs"], cwd=folder, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            said = [line for line in ran.stderr.splitlines() if "rror" in line] or ["it said nothing"]
            raise RefusedError(said[0].strip())
        shape = json.loads(ran.stdout.splitlines()[-1])["shape"]
        return np.frombuffer((folder / "output.bin").read_bytes(), kind).reshape(shape).astype(np.float32)


def tensorrt_rtx(path: Path, lr: Array) -> None:
    """Its parser alone, strongly typed; nothing is built or run."""
    try:
        import tensorrt_rtx as trt
    except ImportError as error:
        raise MissingError(str(error)) from error
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise RefusedError(str(parser.get_error(0)) if parser.num_errors else "it does not say why")


def ncnn(path: Path, lr: Array) -> Array:
    """On the CPU."""
    return _in_ncnn(path, lr, "cpu")


def ncnn_vulkan(path: Path, lr: Array) -> Array:
    """On Vulkan's first device, fp16 stored as realesrgan-ncnn-vulkan stores it."""
    return _in_ncnn(path, lr, "vulkan")


def _in_ncnn(path: Path, lr: Array, device: str) -> Array:
    try:
        module = require_ncnn()
    except RunnerError as error:
        raise MissingError(str(error)) from error
    if device == "vulkan" and not module.get_gpu_count():
        raise MissingError("Vulkan finds no device")
    with open_runner(path, device=device, trust=True) as runner:
        return runner.run(lr)


def _called(run: Any, path: Path, lr: Array) -> Array:
    return np.asarray(run(lr.astype(_input_type(path))), np.float32)


def _input_type(path: Path) -> str:
    """`float16` or `float32`."""
    import onnx

    kind = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.elem_type
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind))
