"""`vl4ad train`: make a model bundle from labelled frames."""

from __future__ import annotations

from pathlib import Path

from vl4ad_ros.cli.options import Count


def train(
    config: Path,
    /,
    *,
    data_root: Path | None = None,
    output: Path | None = None,
    steps: Count | None = None,
    threads: Count | None = None,
    device: str = "auto",
    check: bool = False,
    no_export: bool = False,
    export_only: bool = False,
) -> None:
    """Train a network from a YAML configuration and export it as a model bundle.

    Args:
        config: The run's YAML file, e.g. config/train/vl4ad-small.yaml.
        data_root: Folder that the data paths start from (default: the file's).
        output: Folder of the run (default: the file's).
        steps: Number of steps in all (default: the file's).
        threads: CPU threads of the network (default: all cores).
        device: auto, cpu or cuda:N.
        check: Only check the configuration and the data.
        no_export: Do not write a bundle at the end.
        export_only: Write the bundle of the best checkpoint so far.
    """
    from vl4ad_ros.training.command import TrainOptions, train

    options = TrainOptions(config, data_root, output, steps, threads, check, not no_export, export_only, device)
    for line in train(options):
        print(line, flush=True)
