"""`vl4ad import-fcclip`: an FC-CLIP checkpoint becomes a network of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.prompt_set import load_compiled

if TYPE_CHECKING:
    from vl4ad_ros.network.head import SegmentationHead

ABOVE_TOLERANCE = 1


def import_fcclip(
    checkpoint: Path,
    /,
    *,
    out: Path | None = None,
    verify: Path | None = None,
    tolerance: float = 1e-4,
    backbone: str = "open_clip:convnext_large_d_320",
    text_encoder: str = "open_clip:convnext_large_d_320/laion2b_s29b_b131k_ft_soup",
    clip_weights: Path | None = None,
    train_vocabulary: Path | None = None,
) -> int:
    """Import a checkpoint in FC-CLIP's layout, or check its head against recorded outputs of the reference.

    Args:
        checkpoint: The checkpoint (.pth); read with weights only, no code is run.
        out: Folder for network.json, network.safetensors, text_encoder.safetensors.
        verify: Recorded inputs and outputs (.npz) of the reference's head; attention heads from config.json beside it.
        tolerance: Largest absolute error that --verify accepts.
        backbone: CLIP's architecture.
        text_encoder: Id of the text encoder that belongs to the backbone.
        clip_weights: open_clip's weights file, for a checkpoint without backbone.
        train_vocabulary: Compiled prompt set of the training classes: switches the out-of-vocabulary branch on.
    """
    if out is None and verify is None:
        raise Vl4adError("Nothing to do: give --out DIR to import the checkpoint, or --verify IO.npz to check it.")
    try:
        from vl4ad_ros.network.importing import heads_beside, import_head, import_network, write_import
    except ImportError as error:
        raise Vl4adError(
            f"An import needs torch, open_clip and transformers ({error}); get them with: "
            "pip install 'vl4ad_ros[export]'."
        ) from error
    imported = import_head(checkpoint, heads_beside(verify) if verify else None)
    sizes = imported.head.config
    print(
        f"head: {sizes.num_queries} queries, {sizes.encoder_layers} + {sizes.decoder_layers} layers of "
        f"{sizes.num_heads} heads, width {sizes.hidden_dim}, embedding {sizes.embedding_dim}"
    )
    if verify is not None and not _agrees(imported.head, verify, tolerance):
        return ABOVE_TOLERANCE
    if out is not None:
        vocabulary = load_compiled(train_vocabulary) if train_vocabulary else None
        network, text = import_network(imported, backbone, text_encoder, clip_weights, vocabulary)
        for path in write_import(network, text, out):
            print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
        print(f"temperature of Eq. 1: {network.temperature:.5g}")
    return 0


def _agrees(head: SegmentationHead, record: Path, tolerance: float) -> bool:
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
