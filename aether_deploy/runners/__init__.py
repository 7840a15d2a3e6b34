"""Everything that runs a network: `run(lr) -> sr`.

protocol        what a runner is
devices         the devices that can be chosen
pytorch         a checkpoint; as it was trained, it is the reference of every proof
onnx_reading    a stranger's ONNX file, read and checked
onnx_runtime    an ONNX file on an execution provider
rounded         an ONNX file in half precision, each result rounded as its type says
memory_errors   running out of memory, as one error
"""
