"""The files: what is asked for, made, opened and described.

model              options, target, source, artifact: the values that all of them share
pipeline           a checkpoint -> every file that was asked for
onnx_file, engine_file, fused_checkpoint    how each kind is written and proved
opening            a file -> a runner
inspection         what a file says of itself, and its manifest of it
"""
