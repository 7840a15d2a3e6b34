"""A network -> ONNX in memory, and the passes over that graph, each named after its effect.

exporter              network -> fp32 graph with dynamic shapes
passes                the table of passes that leave the function unchanged, and how they are run
shuffle_last, channels_last_sum, fold_norms      the same values with less work
row_means             means over a picture, exact on a CPU
any_size              mirrors and crops inside the file, for networks that ask for certain sizes
ffn_as_convolutions   for runtimes without a matrix product
half_precision, half_weights                     fp32 -> strongly typed fp16 or bf16
only_rounded          checks that the half graph is the fp32 graph and nothing else
rounded_results       half precision in operators that a CPU has, each result rounded
types, shapes, constants, new_nodes, opsets      what the passes share
"""
