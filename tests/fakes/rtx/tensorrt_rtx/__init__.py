"""The real `tensorrt_rtx`, with a fake of what needs a GPU."""

import tensorrt_rtx_bindings
from tensorrt_rtx_bindings import *  # noqa: F403
from tensorrt_rtx_bindings import __version__ as __version__

from tests.fakes.host_gpu import install

globals().update(install(tensorrt_rtx_bindings))
