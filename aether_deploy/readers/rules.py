"""Programs that cannot be run here, by the rules that they are known to apply."""

from __future__ import annotations

from pathlib import Path

from aether_deploy.arrays import Array
from aether_deploy.readers.reader import MissingError, RefusedError

__all__ = ["chainner", "triton"]

# What chaiNNer sets the free sizes to before it infers the shapes.
_SIDE = 16


def chainner(path: Path, lr: Array) -> None:
    """One image in and out, at most 4 channels, and shapes that can be inferred at 16 pixels.

    From chaiNNer's `onnx/load.py` and `onnx/utils.py`.
    """
    import onnx

    model = onnx.load(path)
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise RefusedError(f"{len(model.graph.input)} inputs and {len(model.graph.output)} outputs; one of each")
    given = model.graph.input[0].type.tensor_type
    if given.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        raise RefusedError("its input is neither float32 nor float16")
    sizes = [dim.dim_value or free for dim, free in zip(given.shape.dim, (1, 0, _SIDE, _SIDE), strict=True)]
    if not 1 <= sizes[1] <= 4:
        raise RefusedError(f"{sizes[1]} channels; 1 to 4")
    for dim, size in zip(given.shape.dim, sizes, strict=True):
        dim.dim_value = size
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise RefusedError(f"its shapes cannot be inferred: {str(error).splitlines()[0]}") from error
    height = inferred.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    if height < 1 or height % sizes[2]:
        raise RefusedError(f"no scale: {sizes[2]} pixels become {height}")


def triton(path: Path, lr: Array) -> None:
    """The configuration beside a model repository's file, parsed and compared with it."""
    config = path.parent.parent / "config.pbtxt"
    if not config.is_file():
        raise MissingError("no config.pbtxt above it; export it with --format triton")
    try:
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingError(str(error)) from error
    try:
        said = text_format.Parse(config.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise RefusedError(f"{config.name}: {error}") from error
    if said.name != config.parent.name:
        raise RefusedError(f"its name is {said.name}, its folder's {config.parent.name}")
    if path.suffix != ".onnx":
        return
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    for ends, values in ((said.input, graph.input), (said.output, graph.output)):
        for end, value in zip(ends, values, strict=True):
            tensor = value.type.tensor_type
            dims = [dim.dim_value or -1 for dim in tensor.shape.dim]
            kind = {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16"}[onnx.TensorProto.DataType.Name(tensor.elem_type)]
            stated = [-1] * (said.max_batch_size > 0) + list(end.dims)
            if (end.name, stated) != (value.name, dims) or model_config_pb2.DataType.Name(end.data_type) != kind:
                raise RefusedError(f"{config.name} says {end.name} {stated}, the file has {value.name} {dims}")
