"""`vl4ad random-word`: train, inspect, evaluate and compare the second method, random-word CLIP."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.errors import Vl4adError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vl4ad_ros.detector import Detector
    from vl4ad_ros.prompts.encoders import TextEncoder
    from vl4ad_ros.random_word.config import TrainSettings
    from vl4ad_ros.random_word.network import RandomWordNetwork

HELP = "train and evaluate the random-word method (text-only training)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )

    train = command("train", "train a network on text embeddings alone, and put it into a bundle")
    _training_options(train)
    train.add_argument("--bundle", help="bundle to train for and to install into (gives the text encoder)")
    train.add_argument("--name", default="default", help="name of the network in the bundle")
    train.add_argument("--output", type=Path, help="file to write (.safetensors); needed without --bundle")
    train.add_argument("--seed", type=int, help="seed (default: the settings')")
    _gap_options(train)

    gap = command("gap", "move the visual embeddings of a bundle onto the texts' by a folder of unlabelled images")
    gap.add_argument("--bundle", required=True, help="bundle with a network")
    gap.add_argument("--name", default="default", help="name of the network in the bundle")
    _gap_options(gap, required=True)

    thresholds = command("thresholds", "choose the mask's threshold of each method and score on generated scenes")
    thresholds.add_argument("config", type=Path, help="the bundle's training configuration (config/train/*.yaml)")
    thresholds.add_argument("--bundle", required=True, help="bundle with a network; its card takes the thresholds")
    thresholds.add_argument(
        "--data-root", type=Path, help="folder that the data paths start from (default: the file's)"
    )
    thresholds.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores")

    inspect = command("inspect", "print a network's card as JSON")
    inspect.add_argument("network", help="a .safetensors file, or the name of a bundle")

    evaluate = command("evaluate", "evaluate on product inspection data with CLIP's image tower")
    evaluate.add_argument("data", type=Path, help="folder of the data set")
    evaluate.add_argument("--layout", choices=("mvtec", "visa"), default="mvtec", help="its folder layout")
    evaluate.add_argument("--categories", nargs="+", help="categories to evaluate (default: all)")
    evaluate.add_argument("--network", type=Path, help="trained network (.safetensors); not for prompt-guided")
    evaluate.add_argument(
        "--method", choices=("random_word", "prompt_guided"), default="random_word", help="prompt_guided: the baseline"
    )
    evaluate.add_argument("--family", default="products", help="prompt family of prompt_guided")
    evaluate.add_argument(
        "--text-encoder", default="open_clip:ViT-B-16-plus-240/laion400m_e31", help="the CLIP model, both towers"
    )
    evaluate.add_argument("--weights", type=Path, help="local weights file of the CLIP model")
    evaluate.add_argument("--windows", type=int, nargs="*", default=[2, 3], help="window sizes in patches")
    evaluate.add_argument("--image-score", choices=("whole", "max", "mean"), default="whole", help="the image's score")
    evaluate.add_argument("--gap", choices=("none", "normal", "all"), default="normal", help="how to close the gap")
    evaluate.add_argument("--gap-images", type=int, default=16, help="training pictures that the gap is measured on")
    evaluate.add_argument("--side", type=int, default=256, help="pictures and masks are resized to side x side")
    evaluate.add_argument("--output", type=Path, help="JSON file to write")

    compare = command("compare", "compare the methods on road data sets with one bundle, over several seeds")
    _training_options(compare)
    compare.add_argument("--bundle", required=True, help="the bundle")
    compare.add_argument("--prompt-set", help="prompt set of VL4AD (default: the bundle's)")
    compare.add_argument(
        "--data", nargs="+", required=True, metavar="LAYOUT=DIR", help="data sets, e.g. road_anomaly=DIR camvid_ood=DIR"
    )
    compare.add_argument("--seeds", type=int, default=5, help="number of seeds")
    compare.add_argument("--stride", type=int, default=1, help="take every n-th frame of each data set")
    compare.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores")
    compare.add_argument("--output", type=Path, required=True, help="folder for compare.json and compare.md")
    _gap_options(compare)


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="?", default="road", help="settings: name or YAML file")
    parser.add_argument("--family", help="prompt family: name or YAML file (default: the settings')")
    parser.add_argument("--text-encoder", help="id of the text encoder (default: the bundle's or the settings')")
    parser.add_argument("--weights", type=Path, help="local weights file of an open_clip text encoder")
    parser.add_argument("--words", metavar="LEAST-MOST", help="random words per prompt, e.g. 1-4; 0 = none")
    parser.add_argument("--samples", type=int, help="training prompts per label (default: the settings')")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings between runs")


def _gap_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--images", type=Path, required=required, help="folder of unlabelled images to close the gap with"
    )
    parser.add_argument("--most-images", type=int, default=8, help="images used, spread evenly over the folder")
    parser.add_argument("--reference", choices=("normal", "all"), default="normal", help="what the images show")


def run(args: argparse.Namespace) -> int:
    """Run a sub-command."""
    actions: dict[str, Callable[[argparse.Namespace], None]] = {
        "train": _train,
        "gap": _gap,
        "thresholds": _thresholds,
        "inspect": _inspect,
        "evaluate": _evaluate,
        "compare": _compare,
    }
    if args.action not in ("gap", "inspect") and importlib.util.find_spec("torch") is None:
        raise Vl4adError(
            f"'vl4ad random-word {args.action}' needs PyTorch; get it with: pip install 'vl4ad_ros[text]'."
        )
    actions[args.action](args)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _settings(args: argparse.Namespace, encoder_of_bundle: str | None) -> TrainSettings:
    """Return the settings with the command line's overrides, checked again."""
    from vl4ad_ros.checked import validate
    from vl4ad_ros.random_word.config import TrainSettings, load_settings

    plain = load_settings(args.settings).model_dump(mode="json")
    if encoder_of_bundle is not None:
        plain["text_encoder"] = encoder_of_bundle
    for name in ("family", "text_encoder", "samples", "seed"):
        value = getattr(args, name, None)
        if value is not None:
            plain[name] = value
    if args.words is not None:
        least, _, most = args.words.partition("-")
        if not least.isdigit() or not (most or least).isdigit():
            raise Vl4adError(f"--words takes a number or a range like 1-4, got '{args.words}'.")
        plain["words"] |= {"least": int(least), "most": int(most or least)}
    return validate(TrainSettings, plain, "the settings with the command line's options")


def _encoder(settings: TrainSettings, args: argparse.Namespace) -> TextEncoder:
    from vl4ad_ros.prompts.encoders import create_encoder

    return create_encoder(settings.text_encoder, args.weights)


def _images(folder: Path, most: int) -> list[NDArray[np.uint8]]:
    """Read up to `most` images, spread evenly over a folder."""
    from vl4ad_ros.evaluation.image_files import read_rgb

    if not folder.is_dir():
        raise Vl4adError(f"There is no folder {folder}.")
    if most < 1:
        raise Vl4adError(f"--most-images must be at least 1, got {most}.")
    suffixes = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        raise Vl4adError(f"{folder} holds no images.")
    count = min(most, len(files))
    return [read_rgb(files[index * len(files) // count]) for index in range(count)]


def _close(network: RandomWordNetwork, detector: Detector, args: argparse.Namespace) -> RandomWordNetwork:
    from vl4ad_ros.random_word.gap import close_gap, directions, mean_visual_embedding

    inputs = [detector.preprocess(image) for image in _images(args.images, args.most_images)]
    basis = directions(network)
    _say(f"measuring the mean visual embedding: {len(inputs)} images, {len(basis)} directions")
    mean = mean_visual_embedding(detector.engine, detector.bundle, inputs, basis, _progress("runs"))
    return close_gap(network, basis, mean, args.reference, {"images": len(inputs), "folder": args.images.name})


def _progress(what: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return report


def _train(args: argparse.Namespace) -> None:
    from vl4ad_ros.bundle import ModelBundle
    from vl4ad_ros.detector import Detector
    from vl4ad_ros.random_word.bundled import install
    from vl4ad_ros.random_word.family import load_family
    from vl4ad_ros.random_word.training import prepare, train

    if args.bundle is None and args.output is None:
        raise Vl4adError("Name a bundle to install the network into (--bundle), or a file to write (--output).")
    if args.images is not None and args.bundle is None:
        raise Vl4adError("--images needs --bundle: the gap belongs to the bundle's visual embeddings.")
    bundle = ModelBundle.load(args.bundle) if args.bundle else None
    settings = _settings(args, bundle.card.text_encoder if bundle else None)
    family, encoder = load_family(settings.family), _encoder(settings, args)
    data = prepare(settings, family, encoder, args.cache, _progress("prompts embedded"))

    def report(epoch: int, loss: float, held: float) -> None:
        _say(f"pass {epoch}: loss {loss:.4f}, on held-out prompts {held:.4f}")

    network = train(data, settings, encoder.id, report)
    if bundle is not None:
        if args.images is not None:
            detector = Detector.open(args.bundle)
            network = _close(network, detector, args)
            detector.close()
        if args.output is None:
            install(bundle, network, args.name)
            print(f"installed '{args.name}' into {bundle.path}")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        network.save(args.output)
        print(f"wrote {args.output}")
    for name, figures in network.card["validation"].items():
        print(f"held-out {name}: AUROC {figures['auroc']:.4f}, accuracy {figures['accuracy']:.4f}")


def _gap(args: argparse.Namespace) -> None:
    from vl4ad_ros.detector import Detector
    from vl4ad_ros.random_word.bundled import install, load_bundled

    detector = Detector.open(args.bundle)
    network = _close(load_bundled(detector.bundle, args.name), detector, args)
    install(detector.bundle, network, args.name)
    print(f"'{args.name}' in {detector.bundle.path}: shift of length {network.card['gap']['length']:.3f}")


def _thresholds(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vl4ad_ros.bundle import ModelBundle
    from vl4ad_ros.random_word.thresholds import choose_thresholds, put_on_card, scenes_of_run

    bundle = ModelBundle.load(args.bundle)
    scenes = scenes_of_run(args.config, args.data_root)
    with tqdm(total=len(scenes), unit="scene", desc="choosing") as bar:
        chosen = choose_thresholds(bundle, scenes, args.threads, bar.update)
    put_on_card(bundle, chosen)
    for name, (threshold, f1) in chosen.items():
        print(f"{name}: threshold {threshold:g}, pixel F1 {f1:.3f} on {len(scenes)} scenes")


def _inspect(args: argparse.Namespace) -> None:
    from vl4ad_ros.bundle import ModelBundle
    from vl4ad_ros.random_word.bundled import load_bundled
    from vl4ad_ros.random_word.network import load_network

    path = Path(args.network)
    network = load_network(path) if path.suffix == ".safetensors" else load_bundled(ModelBundle.load(args.network))
    print(json.dumps(network.card, indent=1))


def _evaluate(args: argparse.Namespace) -> None:
    from vl4ad_ros.prompts.open_clip_encoder import OpenClipEncoder
    from vl4ad_ros.random_word.clip_detector import ClipWindowDetector, image_tower
    from vl4ad_ros.random_word.compare import prompt_guided
    from vl4ad_ros.random_word.evaluate_products import evaluate_products
    from vl4ad_ros.random_word.family import load_family
    from vl4ad_ros.random_word.network import load_network
    from vl4ad_ros.random_word.products import load_categories

    categories = load_categories(args.data, args.layout, args.categories)
    encoder = OpenClipEncoder(args.text_encoder, args.weights)
    if args.method == "prompt_guided":
        network = prompt_guided(load_family(args.family), encoder)
    elif args.network is None:
        raise Vl4adError("Name the trained network (--network FILE), or take --method prompt_guided.")
    else:
        network = load_network(args.network)
    detector = ClipWindowDetector(image_tower(encoder.id, encoder.visual), network, args.windows, args.image_score)
    # The baseline compares two texts with one image: the gap is the same for both.
    gap = None if args.gap == "none" or args.method == "prompt_guided" else args.gap

    def report(category: str, done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            print(f"\r{category}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    result = evaluate_products(detector, categories, args.side, gap=gap, gap_images=args.gap_images, progress=report)
    for name, figures in (*result["categories"].items(), ("mean", result["mean"])):
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    if args.output is not None:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        _write_json(args.output, {"settings": settings, "card": dict(network.card), **result})


def _compare(args: argparse.Namespace) -> None:
    if args.seeds < 1 or args.stride < 1:
        raise Vl4adError(f"--seeds and --stride must be at least 1, got {args.seeds} and {args.stride}.")
    if importlib.util.find_spec("onnx") is None:
        raise Vl4adError("'vl4ad random-word compare' needs onnx; get it with: pip install 'vl4ad_ros[export]'.")
    from vl4ad_ros.bundle import ModelBundle
    from vl4ad_ros.detector import Detector
    from vl4ad_ros.evaluation.datasets import DatasetSource
    from vl4ad_ros.evaluation.layouts import layout
    from vl4ad_ros.random_word.compare import compare, make_variants, table, visual_mean_of
    from vl4ad_ros.random_word.split_engine import SplitEngine

    sources = {}
    for item in args.data:
        name, _, folder = item.partition("=")
        sources[name] = DatasetSource(Path(folder), layout(name))
    bundle = ModelBundle.load(args.bundle)
    detector = Detector(bundle, SplitEngine(bundle, args.threads))
    card = detector.bundle.card
    settings = _settings(args, card.text_encoder)
    mean = None
    if args.images is not None:
        mean = visual_mean_of(detector, _images(args.images, args.most_images), _say)
    seeds = list(range(args.seeds))
    variants = make_variants(settings, _encoder(settings, args), seeds, mean, args.reference, args.cache, _say)
    rows = compare(detector, sources, variants, args.prompt_set, args.stride, _say)
    text = table(rows)
    print(text)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "compare.md").write_text(text, encoding="utf-8")
    record = {
        "bundle": {"name": card.name, "onnx_sha256": detector.bundle.onnx_sha256},
        "engine": detector.engine.info.as_dict(),
        "prompt_set": args.prompt_set or card.default_prompt_set,
        "settings": settings.model_dump(mode="json"),
        "seeds": seeds,
        "stride": args.stride,
        "gap": {"images": args.most_images, "reference": args.reference} if args.images else None,
        "data": {name: source.description for name, source in sources.items()},
        "rows": rows,
    }
    _write_json(args.output / "compare.json", record)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
