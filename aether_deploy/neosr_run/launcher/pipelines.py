"""Test and train for a pip-installed neosr, whose wheel has neither script, built from its own functions.

They do only what a checkout's scripts do with one process and one device: no wandb, no tensorboard, no resume. A
checkout always runs its own unmodified script instead.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
from pathlib import Path
from typing import Any

import torch

__all__ = ["test", "train"]


def test(root: Path) -> None:
    """neosr's test run for the options file in sys.argv.

    Args:
        root: where neosr puts results if the options name no `results_root`.
    """
    from neosr.data import build_dataset
    from neosr.models import build_model

    options = _start(root, is_train=False)
    loaders = [_loader(build_dataset(data), data, options) for _, data in sorted(options["datasets"].items())]
    model = build_model(options)
    for loader in loaders:
        save_images = options["val"].get("save_img", True)
        model.validation(loader, current_iter=options["name"], tb_logger=None, save_img=save_images)


def train(root: Path) -> None:
    """neosr's training run for the options file in sys.argv, up to `[logger] total_iter`.

    Writes `<root>/experiments/<name>/models/net_g_<iteration>.pth` every `save_checkpoint_freq` iterations and
    `net_g_latest.pth` at the end, through neosr's own `save`.

    Args:
        root: where neosr puts `experiments`.
    Raises:
        SystemExit: fewer images than `batch_size`.
    """
    from neosr.data import build_dataset
    from neosr.data.data_sampler import EnlargedSampler
    from neosr.data.prefetch_dataloader import CUDAPrefetcher
    from neosr.models import build_model
    from neosr.utils import MessageLogger

    options = _start(root, is_train=True)
    data, log = options["datasets"]["train"], options["logger"]
    dataset = build_dataset(data)
    sampler = EnlargedSampler(dataset, 1, 0, data.get("dataset_enlarge_ratio", 1))
    loader = _loader(dataset, data, options, sampler)
    if len(loader) == 0:
        # Incomplete batches are dropped, so this would loop forever.
        sys.exit(f"{len(dataset)} images are fewer than batch_size; make it smaller, or raise dataset_enlarge_ratio")
    others = [held for name, held in options["datasets"].items() if name.startswith("val")]
    held_out = [_loader(build_dataset(held), held, options) for held in others]
    validate_every = options["val"]["val_freq"] if held_out else math.inf
    model = build_model(options)
    log.setdefault("use_tb_logger", False)
    message = MessageLogger(options, None, 0)
    prefetcher = CUDAPrefetcher(loader, options)
    iteration = 0
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        prefetcher.reset()
        while iteration < log["total_iter"] and (batch := prefetcher.next()) is not None:
            iteration += 1
            model.feed_data(batch)
            model.optimize_parameters(iteration)
            model.update_learning_rate(iteration, warmup_iter=options["train"].get("warmup_iter", -1))
            if iteration % log.get("print_freq", 100) == 0:
                rates = model.get_current_learning_rate()
                message({"epoch": epoch, "iter": iteration, "lrs": rates, **model.get_current_log()})
            if iteration % log["save_checkpoint_freq"] == 0:
                model.save(epoch, iteration)
            if iteration % validate_every == 0:
                for held in held_out:
                    model.validation(held, iteration, None, options["val"].get("save_img", True))
        if iteration >= log["total_iter"]:
            break
    model.save(epoch=-1, current_iter=-1)


def _start(root: Path, *, is_train: bool) -> dict[str, Any]:
    """Parses the options, makes neosr's folders and opens its log file."""
    from neosr.utils import get_root_logger, get_time_str, make_exp_dirs
    from neosr.utils.options import copy_opt_file, parse_options

    torch.set_default_device("cuda")
    options, arguments = parse_options(str(root), is_train=is_train)
    options["root_path"] = str(root)
    make_exp_dirs(options)
    if is_train:
        copy_opt_file(arguments.opt, options["path"]["experiments_root"])
    kind = "train" if is_train else "test"
    log_file = Path(options["path"]["log"]) / f"{kind}_{options['name']}_{get_time_str()}.log"
    get_root_logger(logger_name="neosr", log_level=logging.INFO, log_file=str(log_file))
    return dict(options)


def _loader(dataset: Any, data: dict[str, Any], options: dict[str, Any], sampler: Any = None) -> Any:
    from neosr.data import build_dataloader

    gpus = options.get("num_gpu", 0)
    return build_dataloader(
        dataset, data, num_gpu=gpus, dist=options["dist"], sampler=sampler, seed=options["manual_seed"]
    )
