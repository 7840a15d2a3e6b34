"""Deploys super-resolution checkpoints: fuse, prove, export, run.

    import aether_deploy as ad

    checkpoint = ad.load_checkpoint("net_g_latest.pth")
    made = ad.export_model(checkpoint, precision="fp16")[0]
    print(made.report)
    with ad.open_runner(made.path) as model:
        ad.upscale(model, "in.png", "out.png")

docs/api.md shows all of it. The names are listed in `__init__.pyi` and imported on first use, so that
`import aether_deploy` does not wait for torch.
"""

import sys
import types

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(types.ModuleType):
    """Keeps importing a submodule from hiding a public name: `upscale` is both a command's module and a function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
