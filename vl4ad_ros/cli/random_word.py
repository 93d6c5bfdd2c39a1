"""`vl4ad random-word`: train, move and inspect a random-word network; choose the thresholds of a bundle."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator
from tqdm import tqdm

from vl4ad_ros.cli.options import Group, Threads, Whole, print_error, progress_bar
from vl4ad_ros.io.checked import validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_writable
from vl4ad_ros.prompts import encoders
from vl4ad_ros.random_word.settings import TrainSettings, load_settings
from vl4ad_ros.runtime.bundle import CARD, ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.parameters import Settings
from vl4ad_ros.runtime.random_word_files import check_takes, install, load_bundled, network_path
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork, load_network


class TextOptions(Settings):
    """What a network is trained on; each overrides the settings file's."""

    family: str | None = Field(default=None, description="Prompt family: name or YAML file (default: the settings').")
    text_encoder: str | None = Field(
        default=None, description="Id of the text encoder (default: the bundle's or the settings')."
    )
    weights: Path | None = Field(default=None, description="Local weights file of an open_clip text encoder.")
    words: str | None = Field(default=None, description="Random words per prompt, e.g. 1-4; 0 = none.")
    samples: PositiveInt | None = Field(
        default=None, description="Training prompts per label (default: the settings')."
    )
    cache: Path | None = Field(default=None, description="Folder that keeps embeddings between runs.")

    @field_validator("words")
    @classmethod
    def _is_range(cls, words: str | None) -> str | None:
        if words is not None and not re.fullmatch(r"\d{1,6}(-\d{1,6})?", words):
            raise ValueError("expected a number or a range like 1-4")
        return words

    def settings(self, name: str, bundle_encoder: str | None = None, seed: int | None = None) -> TrainSettings:
        """Return the settings of a name or file with these overrides, checked again."""
        plain = load_settings(name).model_dump(mode="json")
        given = {
            "family": self.family,
            "text_encoder": self.text_encoder or bundle_encoder,
            "samples": self.samples,
            "seed": seed,
        }
        plain |= {key: value for key, value in given.items() if value is not None}
        if self.words is not None:
            low, _, high = self.words.partition("-")
            plain["words"] |= {"min_words": int(low), "max_words": int(high or low)}
        return validate(TrainSettings, plain, "the settings with the command line's options")

    def encoder(self, settings: TrainSettings) -> encoders.TextEncoder:
        """Open the text encoder of the settings."""
        return encoders.create_encoder(settings.text_encoder, self.weights)


class GapOptions(Settings):
    """What the gap between visual and text embeddings is measured on."""

    images: Path | None = Field(default=None, description="Folder of unlabelled images to close the gap with.")
    most_images: PositiveInt = Field(default=8, description="Images used, spread evenly over the folder.")
    reference: Literal["normal", "all"] = Field(default="normal", description="What the images show.")

    def read(self) -> list[NDArray[np.uint8]]:
        """Return the images, RGB uint8 [H, W, 3]; none where no folder is named."""
        from vl4ad_ros.random_word.gap import read_images

        return [] if self.images is None else read_images(self.images, self.most_images)


def need(library: str, extra: str, command: str) -> None:
    """Check that an optional library is installed."""
    if importlib.util.find_spec(library) is None:
        raise Vl4adError(
            f"'vl4ad random-word {command}' needs {library}; get it with: pip install 'vl4ad_ros[{extra}]'."
        )


def train(
    settings: str = "road",
    /,
    *,
    text: Annotated[TextOptions, Group] = TextOptions(),
    bundle: str | None = None,
    name: str = "default",
    output: Path | None = None,
    seed: Whole | None = None,
    gap: Annotated[GapOptions, Group] = GapOptions(),
) -> None:
    """Train a network on text embeddings alone, and put it into a bundle.

    Args:
        settings: Settings: name or YAML file.
        text: What it is trained on.
        bundle: Bundle to train for and to install into (gives the text encoder).
        name: Name of the network in the bundle.
        output: File to write (.safetensors); needed without --bundle.
        seed: Seed (default: the settings').
        gap: What the gap is measured on.
    """
    need("torch", "text", "train")
    from vl4ad_ros.network.pixel_explainer import pixel_span
    from vl4ad_ros.random_word.embed import cache_folder
    from vl4ad_ros.random_word.settings import load_family
    from vl4ad_ros.random_word.training import prepare
    from vl4ad_ros.random_word.training import train as train_network

    if bundle is None and output is None:
        raise Vl4adError("Name a bundle to install the network into (--bundle), or a file to write (--output).")
    if gap.images is not None and bundle is None:
        raise Vl4adError("--images needs --bundle: the gap belongs to the bundle's visual embeddings.")
    if output is not None and output.suffix != ".safetensors":
        raise Vl4adError(f"--output must be a .safetensors file, got {output}.")
    loaded = ModelBundle.load(bundle) if bundle else None
    chosen = text.settings(settings, loaded.card.text_encoder if loaded else None, seed)
    if loaded is not None and chosen.text_encoder != loaded.card.text_encoder:
        raise Vl4adError(
            f"Bundle '{loaded.card.name}' needs a network of the text encoder '{loaded.card.text_encoder}', but "
            f"--text-encoder names '{chosen.text_encoder}'."
        )
    images = gap.read()
    if output is not None:
        check_writable(output)
    elif loaded is not None:
        _check_install(loaded, name)
    family, encoder = load_family(chosen.family), text.encoder(chosen)
    cache = cache_folder(text.cache, text.weights)
    span = pixel_span(loaded) if loaded else None
    data = prepare(chosen, family, encoder, cache, progress_bar("embedding", "prompt"), span)

    def report(epoch: int, loss: float, held: float) -> None:
        print_error(f"pass {epoch}: loss {loss:.4f}, on held-out prompts {held:.4f}")

    network = train_network(data, chosen, encoder.id, report)
    if bundle is not None and images:
        detector = Detector.open(bundle)
        network = _close_gap(network, detector, images, gap)
        detector.close()
    if output is not None:
        network.save(output)
        print(f"wrote {output}")
    elif loaded is not None:
        install(loaded, network, name)
        print(f"installed '{name}' into {loaded.path}")
    for label, figures in network.card["validation"].items():
        print(f"held-out {label}: AUROC {figures['auroc']:.4f}, accuracy {figures['accuracy']:.4f}")


def gap(*, bundle: str, name: str = "default", options: Annotated[GapOptions, Group] = GapOptions()) -> None:
    """Move the visual embeddings of a bundle onto the texts' by a folder of unlabelled images.

    Args:
        bundle: Bundle with a network.
        name: Name of the network in the bundle.
        options: What the gap is measured on.
    """
    if options.images is None:
        raise Vl4adError("Name a folder of unlabelled images with --images.")
    detector = Detector.open(bundle)
    network = load_bundled(detector.bundle, name)
    _check_install(detector.bundle, name)
    network = _close_gap(network, detector, options.read(), options)
    install(detector.bundle, network, name)
    print(f"'{name}' in {detector.bundle.path}: shift of length {network.card['gap']['length']:.3f}")


def thresholds(config: Path, /, *, bundle: str, data_root: Path | None = None, threads: Threads = 0) -> None:
    """Choose the mask's threshold of each method and score on generated scenes.

    Args:
        config: The bundle's training configuration (config/train/*.yaml).
        bundle: Bundle with a network; its card takes the thresholds.
        data_root: Folder that the data paths start from (default: the file's).
        threads: CPU threads; 0 = all cores.
    """
    need("torch", "text", "thresholds")
    from vl4ad_ros.random_word.thresholds import choose_thresholds, put_on_card, scenes_of_run

    loaded = ModelBundle.load(bundle)
    scenes = scenes_of_run(config, data_root)
    chosen = choose_thresholds(loaded, tqdm(scenes, unit="scene", desc="choosing"), threads)
    put_on_card(loaded, chosen)
    for name, (threshold, f1) in chosen.items():
        print(f"{name}: threshold {threshold:g}, pixel F1 {f1:.3f} on {len(scenes)} scenes")


def inspect(network: str, /, *, name: str = "default") -> None:
    """Print a network's card as JSON.

    Args:
        network: A .safetensors file, or the name of a bundle.
        name: Name of the network in the bundle.
    """
    if Path(network).suffix == ".safetensors":
        found = load_network(Path(network))
    else:
        found = load_bundled(ModelBundle.load(network), name)
    print(json.dumps(found.card, indent=1))


def _check_install(bundle: ModelBundle, name: str) -> None:
    """Check that a network can be put into a bundle, before there is one to lose."""
    check_takes(bundle, name)
    check_writable(network_path(bundle, name))
    check_writable(bundle.path / CARD)


def _close_gap(
    network: RandomWordNetwork, detector: Detector, images: list[NDArray[np.uint8]], options: GapOptions
) -> RandomWordNetwork:
    from vl4ad_ros.random_word.gap import close_gap, directions, mean_visual_embedding

    assert options.images is not None
    basis = directions(network)
    print_error(f"measuring the mean visual embedding: {len(images)} images, {len(basis)} directions")
    mean = mean_visual_embedding(detector, images, basis, progress_bar("measuring", "run"))
    return close_gap(network, mean, options.reference, {"images": len(images), "folder": options.images.name})
