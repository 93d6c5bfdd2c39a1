"""``vl4ad import-fcclip``: an FC-CLIP checkpoint becomes a network of ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from vl4ad_ros.network.head import SegmentationHead

HELP = "import a checkpoint in FC-CLIP's layout, or check its head against recorded outputs of the reference"

ABOVE_TOLERANCE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("checkpoint", type=Path, help="the checkpoint (.pth); read with weights only, no code is run")
    parser.add_argument(
        "--out", type=Path, help="folder for network.json, network.safetensors, text_encoder.safetensors"
    )
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="IO.npz",
        help="recorded inputs and outputs of the reference's head; attention heads from the config.json beside it",
    )
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest absolute error that --verify accepts")
    parser.add_argument("--backbone", default="open_clip:convnext_large_d_320", help="CLIP's architecture")
    parser.add_argument(
        "--text-encoder",
        default="open_clip:convnext_large_d_320/laion2b_s29b_b131k_ft_soup",
        help="id of the text encoder that belongs to the backbone",
    )
    parser.add_argument("--clip-weights", type=Path, help="open_clip's weights file, for a checkpoint without backbone")
    parser.add_argument(
        "--train-vocabulary",
        type=Path,
        metavar="SET.safetensors",
        help="compiled prompt set of the training classes: switches the out-of-vocabulary branch on",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.out is None and args.verify is None:
        raise Vl4adError("Nothing to do: give --out DIR to import the checkpoint, or --verify IO.npz to check it.")
    try:
        from vl4ad_ros.network.importing import heads_beside, import_head, import_network, write_import
    except ImportError as error:
        raise Vl4adError(
            f"An import needs torch, open_clip and transformers ({error}); get them with: "
            "pip install 'vl4ad_ros[export]'."
        ) from error
    from vl4ad_ros.runtime.prompt_set import load_compiled

    imported = import_head(args.checkpoint, heads_beside(args.verify) if args.verify else None)
    sizes = imported.head.config
    print(
        f"head: {sizes.num_queries} queries, {sizes.encoder_layers} + {sizes.decoder_layers} layers of "
        f"{sizes.num_heads} heads, width {sizes.hidden_dim}, embedding {sizes.embedding_dim}"
    )
    if args.verify is not None and not _verify(imported.head, args.verify, args.tolerance):
        return ABOVE_TOLERANCE
    if args.out is not None:
        vocabulary = load_compiled(args.train_vocabulary) if args.train_vocabulary else None
        network, text = import_network(imported, args.backbone, args.text_encoder, args.clip_weights, vocabulary)
        for path in write_import(network, text, args.out):
            print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
        print(f"temperature of Eq. 1: {network.temperature:.5g}")
    return 0


def _verify(head: SegmentationHead, record: Path, tolerance: float) -> bool:
    """Print the error of each recorded array; return whether all are within the tolerance."""
    from vl4ad_ros.network.verify import errors, read_record

    found = errors(head, read_record(record))
    width = max(len(name) for name in found)
    print(f"{'array':<{width}}  max abs error")
    for name, error in found.items():
        print(f"{name:<{width}}  {error:.3e}{'' if error <= tolerance else f'  above {tolerance:g}'}")
    good = all(error <= tolerance for error in found.values())
    print(f"{'agrees' if good else 'DIFFERS'}: tolerance {tolerance:g}")
    return good
