"""Fuzzing guided by coverage: `python -m tests.fuzz checkpoint|onnx [-runs=N] CORPUS`; needs atheris (Linux)."""
