"""How exact a file is: a row a precision, and the forms that a file can have.

precision          what a row says; `Tolerance`
fp32, fp16, bf16   the rows, one a file; `half` is what the latter two share
table              PRECISIONS
choices            what can be asked of a file besides: types at the ends, islands in fp32, FFN
variant, forms     one form of a network, and how its graph comes about

Importing these waits for neither torch nor onnx, so that `--help` does not.
"""
