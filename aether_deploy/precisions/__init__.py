"""How exact a file is, one row per precision, and the forms that a file can have.

precision          the fields of a row; `Tolerance`
fp32, fp16 ...     the rows, one per file
table              PRECISIONS
choices            the other choices for a file: types of input and output, fp32 islands, FFN
variant, forms     one form of a network, and how its graph is made

Importing these, except `forms`, loads neither torch nor onnx, so `--help` need not wait.
"""
