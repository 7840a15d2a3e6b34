"""`install-arch`: puts the network's file into a neosr for training there, or removes it again.

Validation does not need this (`neosr_run` injects the network); training with neosr's own train.py does.
"""

from __future__ import annotations

from pathlib import Path

import click

from aether_deploy import cli
from aether_deploy.neosr_run.installation import FILE_NAME, find_archs, install, uninstall

__all__ = [
    "command",
]


TOML_HINT = """\
In the options file of the training:

[network_g]
type = "aether_medium"   # or aether_small, aether_large, aether
# each default of a variant can be overridden here: embed_dim, depths, mlp_ratio, lk_kernel, sk_kernel"""


@click.command(cls=cli.Command, example="install-arch ~/neosr")
@click.argument("neosr_root", required=False, type=click.Path(path_type=Path))
@click.option("--uninstall", "remove", is_flag=True, help="Remove the file again.")
@cli.json_option
def command(neosr_root: Path | None, remove: bool, as_json: bool) -> None:
    """Put the network's file into the neosr at NEOSR_ROOT, for training there.

    NEOSR_ROOT is a checkout, or the folder of an installed neosr; by default the neosr of this environment. A file that
    is not ours is never touched.
    """
    archs = find_archs(neosr_root)
    changed = uninstall(archs) if remove else install(archs)
    target = archs / FILE_NAME
    if as_json:
        cli.print_json({"file": str(target), "installed": not remove, "changed": changed})
    elif remove:
        cli.say(f"removed {target}" if changed else f"nothing to remove: no {target}")
    else:
        cli.say(f"installed {target}" if changed else f"already installed: {target}")
        click.echo(f"\n{TOML_HINT}")


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.install_arch")
