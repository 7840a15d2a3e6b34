"""Checks, before neosr starts, what it would stumble over: the pair of checkpoints and the images."""

from __future__ import annotations

from pathlib import Path

import torch

from aether_deploy.errors import CheckpointError, ImageError
from aether_deploy.network.checkpoint import BARE, Checkpoint, load_checkpoint
from aether_deploy.network.families import family_of
from aether_deploy.pictures.images import SUFFIXES, list_images

__all__ = ["check_images", "check_pair", "readable_by_neosr"]

# The keys that neosr looks for around the weights; it also reads a bare state dict.
NEOSR_KEYS = ("params-ema", "params_ema", "params", BARE)


def check_pair(trained: Checkpoint, deployed: Checkpoint) -> None:
    """Checks that the two are the unfused and the fused form of one RGB network.

    Raises:
        CheckpointError: they are not.
    """
    if not family_of(trained.spec).shown_by_weights:
        raise CheckpointError(
            f"{trained.path}: neosr has no fused form of {trained.spec.variant}, so there is nothing for it to run; "
            "compare both with the parity command"
        )
    for checkpoint, fused, option in ((deployed, True, "FUSED"), (trained, False, "--against")):
        if checkpoint.spec.fused != fused:
            have, want = ("fused", "unfused") if checkpoint.spec.fused else ("unfused", "fused")
            raise CheckpointError(f"{checkpoint.path}: {have} weights; {option} takes the {want} checkpoint")
    if trained.spec.as_fused() != deployed.spec:
        raise CheckpointError(
            f"two networks: {deployed.path.name} is {deployed.spec.describe()}; {trained.path.name} is "
            f"{trained.spec.describe()}; give the checkpoint that was fused"
        )
    if trained.spec.in_chans != 3:
        raise CheckpointError(f"{trained.path}: {trained.spec.in_chans} channels; neosr's test run feeds 3")


def check_images(images: Path | None, gt: Path | None) -> int | None:
    """The number of images that neosr must run; None if the user's own options name them.

    Raises:
        ImageError: no images, two of one name, another file that neosr would read as an image, or ground truth whose
            names differ.
    """
    if images is None:
        return None
    found = list_images(images)
    # neosr takes every file in the folder for an image, except hidden ones.
    others = [path for path in images.iterdir() if path.is_file() and path.suffix.lower() not in SUFFIXES]
    others = [path for path in others if not path.name.startswith(".")]
    if others:
        raise ImageError(f"{images}: {others[0].name} is no image, and neosr reads every file there; move it away")
    stems = [path.stem for path in found]
    if len(set(stems)) != len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ImageError(f"{images}: two images named {twice}, and neosr would save one over the other; rename one")
    if gt is not None:
        names, given = {path.name for path in found}, {path.name for path in list_images(gt)}
        if names != given:
            odd = sorted(names ^ given)[0]
            raise ImageError(f"{odd} is not in both {images} and {gt}; expected the same file names in both")
    return len(found)


def readable_by_neosr(checkpoint: Checkpoint, copy: Path, notes: list[str]) -> Checkpoint:
    """The checkpoint itself, or a plain copy at `copy` if neosr's strict loading would fail on its wrapping.

    neosr reads only .pth, strips one `module.`, and does not know `_orig_mod.` or an EMA counter. A copy is mentioned
    in `notes`.
    """
    if checkpoint.path.suffix != ".safetensors" and checkpoint.param_key in NEOSR_KEYS:
        contents = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
        weights = contents if checkpoint.param_key == BARE else contents[checkpoint.param_key]
        if {str(key).removeprefix("module.") for key in weights} == set(checkpoint.state_dict):
            return checkpoint
    torch.save({"params": checkpoint.state_dict}, copy)
    notes.append(
        f"neosr cannot read {checkpoint.path.name} as it is; it ran {copy.name}, the same weights as plain params"
    )
    return load_checkpoint(copy, img_range=checkpoint.spec.img_range)
