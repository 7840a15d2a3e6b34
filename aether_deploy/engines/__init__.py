"""ONNX -> TensorRT engines: `tensorrt` for the GPU in this machine, `tensorrt-rtx` for many, built without any.

targets, gpus       GPU names and compute capabilities; what is in this machine
profiles, memory    the shapes that an engine takes, and the memory that they need
plan, build         the request, checked before the build; the build, and what is read back from it
process, worker     one flavour per process: Polygraphy reads its switch on import
session, runner     an engine on a GPU, as a `Runner`
execution           its proof on the GPU in this machine
header, log         an engine's header without TensorRT; TensorRT's errors in one line
"""
