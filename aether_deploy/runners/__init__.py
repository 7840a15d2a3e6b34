"""Everything that runs a network: `run(lr) -> sr`.

protocol        what a runner is
devices         what can be asked for
pytorch         a checkpoint; as it was trained it is the reference of every proof
onnx_runtime    an ONNX file on an execution provider
rounded         an ONNX file in half precision, each result rounded as its type says
memory_errors   memory that ran out, as one error
"""
