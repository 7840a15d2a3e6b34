"""Which layers cause the error of a file: the shares of `locate`, by layer and by operator.

    python -m benchmarks.layer_shares                                        # the packaged sample in fp16
    python -m benchmarks.layer_shares net_g_latest.pth --precision bf16

Prints a Markdown table for each and writes benchmarks/results/layer_shares_<checkpoint>_<precision>.json.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import click

from aether_deploy.artifacts.locating_files import locate_files
from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.locating.location import Location
from aether_deploy.precisions.variant import Variant
from aether_deploy.samples import SAMPLE
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), default=SAMPLE)
@click.option("--precision", default="fp16")
@click.option("--islands", default="default")
@click.option("--images", type=click.Path(path_type=Path), help="Photos, of which the first is taken.")
def main(checkpoint: Path, precision: str, islands: str, images: Path | None) -> None:
    """Measures the shares of CHECKPOINT's layers."""
    with tempfile.TemporaryDirectory() as folder:
        options = ExportOptions(variants=(Variant(precision, islands=islands),), output=folder, images=images)
        (made,) = export_model(checkpoint, options)
        found = locate_files(checkpoint, made.path, images=images).location
    results = {"machine": describe_machine(), "checkpoint": checkpoint.name, "precision": precision, "islands": islands}
    RESULTS.mkdir(exist_ok=True)
    name = f"layer_shares_{checkpoint.stem}_{precision}{'' if islands == 'default' else f'_{islands}'}.json"
    (RESULTS / name).write_text(json.dumps({**results, **found.as_dict()}, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(found))


def as_markdown(found: Location) -> str:
    """The ten layers that cause most, then each type of operator."""
    rows = sorted(found.layers, key=lambda row: -(row.share or 0.0))
    operators: Counter[str] = Counter()
    for row in rows:
        operators[row.op] += row.share or 0.0  # type: ignore[assignment]  # shares are fractions
    lines = ["| layer | operator | alone | share |", "|---|---|---|---|"]
    lines += [f"| `{row.layer}` | {row.op} | {row.alone:.1e} | {row.share or 0.0:.1%} |" for row in rows[:10]]
    lines += ["", "| operator that errs most in its layer | share |", "|---|---|"]
    lines += [f"| {op} | {share:.1%} |" for op, share in operators.most_common()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
