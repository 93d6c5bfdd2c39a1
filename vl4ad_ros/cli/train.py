"""`vl4ad train` and `ablate`: make a model bundle from labelled frames, and the ablation table of one."""

from __future__ import annotations

from pathlib import Path

from vl4ad_ros.cli.options import Count, Threads, progress_bar
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import write_json, write_text
from vl4ad_ros.runtime.detector import Detector


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


def ablate(
    *,
    bundle: str = "vl4ad-small",
    twin: str | None = None,
    road_anomaly: Path | None = None,
    camvid_ood: Path | None = None,
    out: Path,
    threads: Threads = 0,
    no_pictures: bool = False,
) -> None:
    """Run the ablation of the paper on a bundle: one table, from the vision-only twin to OOD prompts.

    Args:
        bundle: The vision-language bundle: name or folder.
        twin: Bundle of the vision-only twin (head: linear); left out, its rows are, too.
        road_anomaly: Folder of RoadAnomaly (images/ and labels/).
        camvid_ood: Folder of CamVid test_ood (images/ and labels/).
        out: Folder for table.md, result.json and pictures/.
        threads: CPU threads of the engine; 0 lets it choose.
        no_pictures: Write no pictures.
    """
    from vl4ad_ros.training.ablation import Row, make_steps, plain, run_steps, table

    sets = {"road_anomaly": road_anomaly, "camvid_ood": camvid_ood}
    chosen = {name: root for name, root in sets.items() if root is not None}
    if not chosen:
        raise Vl4adError("nothing to evaluate: give --road-anomaly DIR, --camvid-ood DIR or both")
    detectors = [Detector.open(name, threads=threads) for name in (bundle, twin) if name is not None]
    steps = make_steps(detectors)
    (out / "result.json").unlink(missing_ok=True)  # where it is, the rest belongs to it
    rows: list[Row] = []
    for name, root in chosen.items():
        show = progress_bar(name)
        for report in run_steps(detectors, steps, root, name, None if no_pictures else out / "pictures"):
            if isinstance(report, list):
                rows.extend(report)
            else:
                show(*report)
    write_text(out / "table.md", table(rows) + "\n")
    write_json(out / "result.json", plain(rows, detectors))
    for detector in detectors:
        detector.close()
    print(table(rows))
    print(f"written to {out}")
