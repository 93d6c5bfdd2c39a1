"""`vl4ad random-word`: train, inspect and compare the second method, random-word CLIP."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vl4ad_ros.cli.random_word_options import progress, say
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_writable, write_json, write_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vl4ad_ros.prompts.encoders import TextEncoder
    from vl4ad_ros.random_word.settings import TrainSettings
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.detector import Detector
    from vl4ad_ros.runtime.random_word_network import RandomWordNetwork

HELP = "train and evaluate the random-word method (text-only training)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

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
    inspect.add_argument("--name", default="default", help="name of the network in the bundle")

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
        "compare": _compare,
    }
    if args.action not in ("gap", "inspect") and importlib.util.find_spec("torch") is None:
        raise Vl4adError(
            f"'vl4ad random-word {args.action}' needs PyTorch; get it with: pip install 'vl4ad_ros[text]'."
        )
    actions[args.action](args)
    return 0


def _settings(args: argparse.Namespace, encoder_of_bundle: str | None) -> TrainSettings:
    """Return the settings with the command line's overrides, checked again."""
    from vl4ad_ros.io.checked import validate
    from vl4ad_ros.random_word.settings import TrainSettings, load_settings

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


def _gap_images(args: argparse.Namespace) -> list[NDArray[np.uint8]]:
    from vl4ad_ros.random_word.gap import read_images

    return read_images(args.images, args.most_images)


def _check_install(bundle: ModelBundle, name: str) -> None:
    """Check that a network can be put into a bundle, before there is one to lose."""
    from vl4ad_ros.runtime.bundle import CARD
    from vl4ad_ros.runtime.random_word_files import check_takes, network_path

    check_takes(bundle, name)
    check_writable(network_path(bundle, name))
    check_writable(bundle.path / CARD)


def _close(
    network: RandomWordNetwork, detector: Detector, images: list[NDArray[np.uint8]], args: argparse.Namespace
) -> RandomWordNetwork:
    from vl4ad_ros.random_word.gap import close_gap, directions, mean_visual_embedding

    basis = directions(network)
    say(f"measuring the mean visual embedding: {len(images)} images, {len(basis)} directions")
    mean = mean_visual_embedding(detector, images, basis, progress("runs"))
    return close_gap(network, mean, args.reference, {"images": len(images), "folder": args.images.name})


def _train(args: argparse.Namespace) -> None:
    from vl4ad_ros.random_word.embed import cache_folder
    from vl4ad_ros.random_word.settings import load_family
    from vl4ad_ros.random_word.training import prepare, train
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.detector import Detector
    from vl4ad_ros.runtime.random_word_files import install

    if args.bundle is None and args.output is None:
        raise Vl4adError("Name a bundle to install the network into (--bundle), or a file to write (--output).")
    if args.images is not None and args.bundle is None:
        raise Vl4adError("--images needs --bundle: the gap belongs to the bundle's visual embeddings.")
    if args.output is not None and args.output.suffix != ".safetensors":
        raise Vl4adError(f"--output must be a .safetensors file, got {args.output}.")
    bundle = ModelBundle.load(args.bundle) if args.bundle else None
    settings = _settings(args, bundle.card.text_encoder if bundle else None)
    if bundle is not None and settings.text_encoder != bundle.card.text_encoder:
        raise Vl4adError(
            f"Bundle '{bundle.card.name}' needs a network of the text encoder '{bundle.card.text_encoder}', but "
            f"--text-encoder names '{settings.text_encoder}'."
        )
    images = _gap_images(args) if args.images is not None else []
    if args.output is not None:
        check_writable(args.output)
    elif bundle is not None:
        _check_install(bundle, args.name)
    family, encoder = load_family(settings.family), _encoder(settings, args)
    cache = cache_folder(args.cache, args.weights)
    data = prepare(settings, family, encoder, cache, progress("prompts embedded"))

    def report(epoch: int, loss: float, held: float) -> None:
        say(f"pass {epoch}: loss {loss:.4f}, on held-out prompts {held:.4f}")

    network = train(data, settings, encoder.id, report)
    if bundle is not None:
        if images:
            detector = Detector.open(args.bundle)
            network = _close(network, detector, images, args)
            detector.close()
        if args.output is None:
            install(bundle, network, args.name)
            print(f"installed '{args.name}' into {bundle.path}")
    if args.output is not None:
        network.save(args.output)
        print(f"wrote {args.output}")
    for name, figures in network.card["validation"].items():
        print(f"held-out {name}: AUROC {figures['auroc']:.4f}, accuracy {figures['accuracy']:.4f}")


def _gap(args: argparse.Namespace) -> None:
    from vl4ad_ros.runtime.detector import Detector
    from vl4ad_ros.runtime.random_word_files import install, load_bundled

    detector = Detector.open(args.bundle)
    network = load_bundled(detector.bundle, args.name)
    _check_install(detector.bundle, args.name)
    network = _close(network, detector, _gap_images(args), args)
    install(detector.bundle, network, args.name)
    print(f"'{args.name}' in {detector.bundle.path}: shift of length {network.card['gap']['length']:.3f}")


def _thresholds(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vl4ad_ros.random_word.thresholds import choose_thresholds, put_on_card, scenes_of_run
    from vl4ad_ros.runtime.bundle import ModelBundle

    bundle = ModelBundle.load(args.bundle)
    scenes = scenes_of_run(args.config, args.data_root)
    chosen = choose_thresholds(bundle, tqdm(scenes, unit="scene", desc="choosing"), args.threads)
    put_on_card(bundle, chosen)
    for name, (threshold, f1) in chosen.items():
        print(f"{name}: threshold {threshold:g}, pixel F1 {f1:.3f} on {len(scenes)} scenes")


def _inspect(args: argparse.Namespace) -> None:
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.random_word_files import load_bundled
    from vl4ad_ros.runtime.random_word_network import load_network

    path = Path(args.network)
    is_file = path.suffix == ".safetensors"
    network = load_network(path) if is_file else load_bundled(ModelBundle.load(args.network), args.name)
    print(json.dumps(network.card, indent=1))


def _compare(args: argparse.Namespace) -> None:
    if args.seeds < 1 or args.stride < 1:
        raise Vl4adError(f"--seeds and --stride must be at least 1, got {args.seeds} and {args.stride}.")
    if importlib.util.find_spec("onnx") is None:
        raise Vl4adError("'vl4ad random-word compare' needs onnx; get it with: pip install 'vl4ad_ros[export]'.")
    from vl4ad_ros.evaluation.datasets import DatasetSource
    from vl4ad_ros.evaluation.layouts import layout
    from vl4ad_ros.random_word.compare import compare, make_variants, plain
    from vl4ad_ros.random_word.embed import cache_folder
    from vl4ad_ros.random_word.gap import mean_visual_embedding
    from vl4ad_ros.random_word.split_engine import SplitEngine
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.detector import Detector
    from vl4ad_ros.training.ablation import table

    outputs = [args.output / name for name in ("compare.md", "compare.json")]
    for path in outputs:
        check_writable(path)
    data = {name: Path(folder) for name, _, folder in (item.partition("=") for item in args.data)}
    sources = {name: DatasetSource(folder, layout(name)) for name, folder in data.items()}
    bundle = ModelBundle.load(args.bundle)
    detector = Detector(bundle, SplitEngine(bundle, args.threads))
    card = detector.bundle.card
    settings = _settings(args, card.text_encoder)
    mean = None
    if args.images is not None:
        axes = np.eye(card.embedding_dim, dtype=np.float32)
        mean = mean_visual_embedding(detector, _gap_images(args), axes, progress("runs for the mean embedding"))
    seeds = list(range(args.seeds))
    encoder, cache = _encoder(settings, args), cache_folder(args.cache, args.weights)
    shown = progress("prompts embedded")
    variants = make_variants(settings, encoder, seeds, mean, args.reference, cache, say, shown)
    rows = compare(detector, data, variants, args.prompt_set, args.stride, say)
    text = table(rows) + "\n"
    print(text)
    write_text(outputs[0], text)
    record = {
        "bundle": {"name": card.name, "onnx_sha256": detector.bundle.onnx_sha256},
        "engine": detector.engine.info.as_dict(),
        "prompt_set": args.prompt_set or card.default_prompt_set,
        "settings": settings.model_dump(mode="json"),
        "seeds": seeds,
        "stride": args.stride,
        "gap": {"images": args.most_images, "reference": args.reference} if args.images else None,
        "data": {name: source.description for name, source in sources.items()},
        "rows": plain(variants, rows),
    }
    write_json(outputs[1], record)
