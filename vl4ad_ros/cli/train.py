"""``vl4ad train``: make a model bundle from labelled frames."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train a network from a YAML configuration and export it as a model bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, help="the run's YAML file, e.g. config/train/vl4ad-small.yaml")
    parser.add_argument("--data-root", type=Path, help="folder that the data paths start from (default: the file's)")
    parser.add_argument("--output", type=Path, help="folder of the run (default: the file's)")
    parser.add_argument("--steps", type=int, help="number of steps in all (default: the file's)")
    parser.add_argument("--threads", type=int, help="CPU threads of the network (default: all cores)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    parser.add_argument("--check", action="store_true", help="only check the configuration and the data")
    parser.add_argument("--no-export", action="store_true", help="do not write a bundle at the end")
    parser.add_argument("--export-only", action="store_true", help="write the bundle of the best checkpoint so far")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vl4ad_ros.training.command import TrainOptions, train

    options = TrainOptions(
        config=args.config,
        data_root=args.data_root,
        output=args.output,
        steps=args.steps,
        threads=args.threads,
        check_only=args.check,
        export=not args.no_export,
        export_only=args.export_only,
        device=args.device,
    )
    for line in train(options):
        print(line, flush=True)
    return 0
