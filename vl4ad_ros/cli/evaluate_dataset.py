"""`vl4ad evaluate dataset`: the detector on a benchmark's folder, or on any folder of images and labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from vl4ad_ros.cli import evaluate_options as options
from vl4ad_ros.cli.random_word_options import add_clip_windows, clip_windows

HELP = "Run the detector on a data set and measure it (road_anomaly, camvid_ood, road_anomaly_21, folder, ...)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from vl4ad_ros.evaluation.layouts import LAYOUTS

    parser.add_argument("name", help=f"one of {', '.join(LAYOUTS)}, or folder (images/ and labels/)")
    parser.add_argument("path", type=Path, help="the data set's folder")
    mapping = parser.add_argument_group("labels (of 'folder')")
    mapping.add_argument("--anomaly", default="1", help="label values that are anomalies, e.g. 1, 3-5 or #ff6600")
    mapping.add_argument("--void", default="255", help="label values that are left out")
    mapping.add_argument("--normal", help="label values that are no anomalies; default: all others")
    options.add_detector(parser)
    options.add_run(parser, track=None)
    add_clip_windows(parser)
    parser.add_argument("--submission", type=Path, help="also write the SegmentMeIfYouCan submission layout here")
    parser.add_argument("--method-name", default="vl4ad_ros", help="name of the method in the submission")


def run(args: argparse.Namespace) -> int:
    """Evaluate and write."""
    from vl4ad_ros.evaluation.datasets import DatasetSource
    from vl4ad_ros.evaluation.layouts import folder_layout, layout
    from vl4ad_ros.io.labels import LabelMapping, parse_values

    if args.name == "folder":
        normal = None if args.normal is None else parse_values(args.normal)
        mapping = LabelMapping(parse_values(args.anomaly), parse_values(args.void), normal)
        chosen = folder_layout(mapping, args.track or "anomaly")
    else:
        chosen = layout(args.name)
    spec = clip_windows(args) or options.detector_spec(args)
    options.check_run(args)
    if args.submission is not None:
        from vl4ad_ros.evaluation.submission import write_submission

        everything = DatasetSource(args.path, chosen, with_unlabelled=True)
        count = write_submission(args.submission, everything, spec, args.method_name)
        print(f"{count} score maps for SegmentMeIfYouCan in {args.submission}")
        for problem in everything.problems:
            print(f"note: {problem}")
    source = DatasetSource(args.path, chosen)
    result = options.evaluate_source(args, source, spec, chosen.track, region_overlap=chosen.products)
    options.print_headline(result, args.out)
    return 0
