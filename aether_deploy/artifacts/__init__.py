"""The files: what is asked for, made, opened, compared and described.

formats            the table of formats, and what each offers
model              options, plan, target, source, artifact: the values that all of them share
pipeline           a checkpoint -> every file that was asked for
checkpoint_file, onnx_file, engine_file    a format each: planned, made, opened, described
onnx_proof         an ONNX file, written and proved
opening            a file -> what is known of it, and a runner
comparing          two files on the same inputs
inspection         what a file says of itself, and its manifest of it
examination, onnx_providers    what this machine can do with them
"""
