"""ONNX -> TensorRT engines: `tensorrt` for the GPU that is here, `tensorrt-rtx` for many, built without one.

targets, gpus       GPU names and compute capabilities; what is in this machine
profiles, memory    the shapes an engine takes, and what they need
plan, build         what is asked, checked before the build; the build, and what is read back from it
process, worker     one flavour a process: Polygraphy's switch is read when it is imported
session, runner     an engine on a GPU, as a `Runner`
execution           what could be proved of it here
header, log         an engine's header without TensorRT; TensorRT's errors in one line
"""
