"""A network -> ONNX, in memory, and the passes over that graph, each named by its effect.

exporter              network -> fp32 graph with dynamic shapes
forms                 what a file can be: precision, types at the ends, islands, FFN, opset
shuffle_last, channels_last_sum, fold_norms      the same values with less work
ffn_as_convolutions   for runtimes without a matrix product
half_precision, half_weights                     fp32 -> strongly typed fp16 or bf16
types, constants      what the passes share
"""
