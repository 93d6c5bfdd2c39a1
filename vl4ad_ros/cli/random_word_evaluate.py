"""`vl4ad random-word evaluate`: the method on CLIP's own image tower, on product and on road data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.cli.random_word_options import progress, read_images
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_writable, write_json

if TYPE_CHECKING:
    from vl4ad_ros.evaluation.datasets import DatasetSource
    from vl4ad_ros.random_word.clip_detector import ClipWindowDetector
    from vl4ad_ros.random_word.products import ProductCategory

HELP = "evaluate on product inspection or road data with CLIP's image tower"
PRODUCTS = ("mvtec", "visa")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from vl4ad_ros.evaluation.layouts import LAYOUTS

    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument(
        "--layout",
        choices=(*PRODUCTS, *LAYOUTS),
        metavar="LAYOUT",
        default="mvtec",
        help=f"products: {', '.join(PRODUCTS)}; roads: {', '.join(LAYOUTS)}",
    )
    parser.add_argument("--network", type=Path, help="trained network (.safetensors); not for prompt_guided")
    parser.add_argument(
        "--method", choices=("random_word", "prompt_guided"), default="random_word", help="prompt_guided: the baseline"
    )
    parser.add_argument("--family", help="prompt family of prompt_guided; default: products, or road for road data")
    parser.add_argument(
        "--text-encoder", default="open_clip:ViT-B-16-plus-240/laion400m_e31", help="the CLIP model, both towers"
    )
    parser.add_argument("--weights", type=Path, help="local weights file of the CLIP model")
    parser.add_argument("--windows", type=int, nargs="*", default=[2, 3], help="window sizes in patches")
    parser.add_argument("--gap", choices=("none", "normal", "all"), default="normal", help="how to close the gap")
    parser.add_argument("--gap-images", type=int, default=16, help="pictures that the gap is measured on, at most")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    products = parser.add_argument_group("product data")
    products.add_argument("--categories", nargs="+", help="categories to evaluate; default: all")
    products.add_argument("--image-score", choices=("whole", "max", "mean"), default="whole", help="the image's score")
    products.add_argument("--side", type=int, default=256, help="pictures and masks are resized to side x side")
    roads = parser.add_argument_group("road data")
    roads.add_argument("--images", type=Path, help="folder of other, unlabelled pictures to close the gap with")


def run(args: argparse.Namespace) -> None:
    """Evaluate, print and write."""
    from vl4ad_ros.prompts.open_clip_encoder import OpenClipEncoder
    from vl4ad_ros.random_word.clip_detector import ClipWindowDetector, image_tower
    from vl4ad_ros.random_word.compare import prompt_guided
    from vl4ad_ros.random_word.family import load_family
    from vl4ad_ros.runtime.random_word_network import load_network

    _check(args)
    data = _data(args)
    encoder = OpenClipEncoder(args.text_encoder, args.weights)
    if args.method == "prompt_guided":
        family = load_family(args.family or ("products" if args.layout in PRODUCTS else "road"))
        network = prompt_guided(family, encoder, progress=progress("prompts embedded"))
    else:
        network = load_network(args.network)
    detector = ClipWindowDetector(image_tower(encoder.id, encoder.visual), network, args.windows, args.image_score)
    result = _products(args, detector, data) if isinstance(data, list) else _road(args, detector, data)
    if args.output is not None:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        write_json(args.output, {"settings": settings, "card": dict(network.card), **result})


def _gap(args: argparse.Namespace) -> Any:
    # The baseline compares two texts with one image: the gap is the same for both.
    return None if args.gap == "none" or args.method == "prompt_guided" else args.gap


def _check(args: argparse.Namespace) -> None:
    """Check what can be checked before the model is loaded."""
    if args.method == "random_word" and args.network is None:
        raise Vl4adError("Name the trained network (--network FILE), or take --method prompt_guided.")
    for option, value in (("--side", args.side), ("--gap-images", args.gap_images)):
        if value < 1:
            raise Vl4adError(f"{option} must be at least 1, got {value}.")
    if args.layout in PRODUCTS:
        if args.images is not None:
            raise Vl4adError(
                "--images is for road data: the gap of a product is measured on its own training pictures."
            )
    elif args.categories is not None:
        raise Vl4adError(f"--categories is for product data: '{args.layout}' has none.")
    elif _gap(args) is not None and args.images is None:
        raise Vl4adError(
            "A road data set has no training pictures to close the gap with: name a folder of other ones (--images "
            "DIR), or leave the gap open (--gap none)."
        )
    if args.output is not None:
        check_writable(args.output)


def _data(args: argparse.Namespace) -> list[ProductCategory] | DatasetSource:
    from vl4ad_ros.evaluation.datasets import DatasetSource
    from vl4ad_ros.evaluation.layouts import layout
    from vl4ad_ros.random_word.products import load_categories

    if args.layout in PRODUCTS:
        return load_categories(args.data, args.layout, args.categories)
    return DatasetSource(args.data, layout(args.layout))


def _products(
    args: argparse.Namespace, detector: ClipWindowDetector, categories: list[ProductCategory]
) -> dict[str, Any]:
    from vl4ad_ros.random_word.evaluate import evaluate_products

    def report(category: str, done: int, total: int) -> None:
        progress(f"pictures of {category}")(done, total)

    result = evaluate_products(
        detector, categories, args.side, gap=_gap(args), gap_images=args.gap_images, progress=report
    )
    for name, figures in (*result["categories"].items(), ("mean", result["mean"])):
        _print(name, figures)
    for figure, names in result["left_out"].items():
        print(f"note: the mean of {figure} leaves out what has none: {', '.join(names)}")
    return result


def _road(args: argparse.Namespace, detector: ClipWindowDetector, source: DatasetSource) -> dict[str, Any]:
    from vl4ad_ros.random_word.evaluate import evaluate_road

    gap = _gap(args)
    if gap is not None:
        detector = detector.with_gap_closed(read_images(args.images, args.gap_images, "--gap-images"), gap)
    result = evaluate_road(detector, source, progress=progress("frames"))
    _print(args.layout, result["pixel"])
    for problem in result["problems"]:
        print(f"note: {problem}")
    return {**result, "gap": detector.network.card.get("gap")}


def _print(name: str, figures: dict[str, float | int | None]) -> None:
    shown = (f"{key} " + ("-" if value is None else f"{value:.4g}") for key, value in figures.items())
    print(f"{name}: {', '.join(shown)}")
