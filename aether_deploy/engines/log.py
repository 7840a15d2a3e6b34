"""What TensorRT's log means, and what to do about it."""

from __future__ import annotations

import re

__all__ = ["OUT_OF_MEMORY", "explain", "last_errors"]

OUT_OF_MEMORY = "out of memory"

# Lines of the log that are errors: Polygraphy's `[E]` and `[!]`, TensorRT's own `[E]` and `[F]`, Myelin's.
_ERROR_LINE = re.compile(r"\[[EF!]\]|Error Code|Internal Error|Error:")

# Pattern in the log -> what it means and what to do. The first match is taken, so the most certain come first.
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"BuildCanceled"),
        "cancelled",
    ),
    (
        re.compile(r"check_turing_op_compatibility|FP32 GEMM is not supported"),
        "sm75 (Turing) has no kernel for a MatMul here; the FFN does build as 1x1 convolutions: add --ffn conv1x1, "
        "or leave sm75 out of --gpu",
    ),
    (
        re.compile(r"OutOfMemory|out of memory|within workspace limit", re.IGNORECASE),
        OUT_OF_MEMORY,
    ),
    (
        re.compile(r"runtime-fusion MVMF for '__myl_Fc'"),
        "no kernel for one of the FFN's MatMuls; build again, or with --ffn conv1x1",
    ),
    (
        # Before the missing driver, which TensorRT reports after this.
        re.compile(r"Serialization assertion|MALFORMED_ENGINE|empty memory buffer"),
        "no engine of this TensorRT, or a damaged one; export it again",
    ),
    (
        re.compile(r"version tag|version mismatch|older plan|newer plan|incompatible version", re.IGNORECASE),
        "the engine was built by another TensorRT; export it again with the one that is installed",
    ),
    (
        re.compile(r"libcuda\.so|nvcuda\.dll|cudaError 35|driver version is insufficient|CUDA Error: (?:35|100)\b"),
        "no NVIDIA driver that this TensorRT can use; install or update the driver "
        "(`python -m aether_deploy.doctor` shows what is here)",
    ),
    (
        re.compile(r"libcudart|CUDA runtime library"),
        "the CUDA runtime library is missing: pip install nvidia-cuda-runtime",
    ),
    (
        re.compile(r"compute capability|different (?:GPU|device)|incompatible (?:GPU|device)", re.IGNORECASE),
        "the engine is for other GPUs than the one here; export it again with --gpu current",
    ),
    (
        re.compile(r"parse (?:the )?ONNX", re.IGNORECASE),
        "the ONNX file does not parse; export it again",
    ),
)


def explain(log: str) -> str:
    """What a log means, in one clause that begins with a lower-case letter; "" if nothing in it is known."""
    return next((meaning for pattern, meaning in _KNOWN if pattern.search(log)), "")


def last_errors(log: str, count: int = 3) -> list[str]:
    """The last `count` error lines of a log, each once, without Polygraphy's and TensorRT's prefixes."""
    lines = [line.strip() for line in log.splitlines() if _ERROR_LINE.search(line)]
    bare = [re.sub(r"^\[[^\]]*\] \[TRT\] |^\[[EF!]\] ", "", line) for line in lines]
    return list(dict.fromkeys(bare))[-count:]
