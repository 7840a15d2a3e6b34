"""The files: how they are planned, made, opened, compared and described.

formats            the table of formats, and what each offers
model              options, plan, target, source, artifact: the values that all formats share
pipeline           a checkpoint -> every requested file
checkpoint_file, onnx_file, engine_file    one format each: planned, made, opened, described
onnx_proof         an ONNX file, written and proved: in fp32; before it is rounded, too
half_proof         the same in half precision
eight_bits, eight_bits_proof    which layers go to 8 bits, and the same for their file
onnx_check         what these proofs share
opening            a file -> what is known about it, and a runner
comparing          two files on the same inputs
inspection         what a file and its manifest say about it
examination, onnx_providers    what this machine can do with them
"""
