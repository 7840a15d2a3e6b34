"""A thin fake of `tensorrt`, whose libraries pip cannot get here: `tensorrt_rtx` does the work.

Its parser, network, configuration and builder are real. Faked: the version (FAKE_TENSORRT_VERSION), a builder that
notes the flags of each network in FAKE_TENSORRT_RECORD and writes a plan's magic, and what needs a GPU.
"""

import os
from pathlib import Path

import tensorrt_rtx
from tensorrt_rtx import *  # noqa: F403

from tests.fakes.host_gpu import install

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "11.4.0.106")


class Builder(tensorrt_rtx.Builder):  # type: ignore[misc]
    def create_network(self, flags: int = 0) -> object:
        strong = 1 << int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        with Path(os.environ["FAKE_TENSORRT_RECORD"]).open("a") as record:
            record.write(f"{'STRONGLY_TYPED' if flags & strong else 'weak'}\n")
        return super().create_network(flags)

    def build_serialized_network(self, network: object, config: object) -> bytes | None:
        plan = super().build_serialized_network(network, config)
        return None if plan is None else b"ftrt" + bytes(plan)[4:]


globals().update(install(tensorrt_rtx))
