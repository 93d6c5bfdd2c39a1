"""``vl4ad ablate``: the paper's ablation table for a bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "run the ablation of the paper on a bundle: one table, from the vision-only twin to OOD prompts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--bundle", default="vl4ad-small", help="the vision-language bundle: name or folder")
    parser.add_argument("--twin", help="bundle of the vision-only twin (head: linear); left out, its rows are, too")
    parser.add_argument("--road-anomaly", type=Path, help="folder of RoadAnomaly (images/ and labels/)")
    parser.add_argument("--camvid-ood", type=Path, help="folder of CamVid test_ood (images/ and labels/)")
    parser.add_argument("--out", type=Path, required=True, help="folder for table.md, result.json and pictures/")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0 lets it choose")
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from tqdm import tqdm

    from vl4ad_ros.io.errors import Vl4adError
    from vl4ad_ros.runtime.detector import Detector
    from vl4ad_ros.training.ablation import Row, make_steps, plain, run_steps, table

    sets = {"road_anomaly": args.road_anomaly, "camvid_ood": args.camvid_ood}
    chosen = {name: root for name, root in sets.items() if root is not None}
    if not chosen:
        raise Vl4adError("nothing to evaluate: give --road-anomaly DIR, --camvid-ood DIR or both")
    names = [args.bundle] if args.twin is None else [args.bundle, args.twin]
    detectors = [Detector.open(name, threads=args.threads) for name in names]
    steps = make_steps(detectors)
    pictures = None if args.no_pictures else args.out / "pictures"
    rows: list[Row] = []
    for name, root in chosen.items():
        with tqdm(desc=name, unit="frame") as bar:
            for report in run_steps(detectors, steps, root, name, pictures):
                if isinstance(report, list):
                    rows.extend(report)
                else:
                    bar.total = report[1]
                    bar.update(report[0] - bar.n)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "table.md").write_text(table(rows) + "\n", encoding="utf-8")
    (args.out / "result.json").write_text(json.dumps(plain(rows, detectors), indent=1) + "\n", encoding="utf-8")
    for detector in detectors:
        detector.close()
    print(table(rows))
    print(f"written to {args.out}")
    return 0
