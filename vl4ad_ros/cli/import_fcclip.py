"""`vl4ad import-fcclip`: an FC-CLIP checkpoint becomes a network of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vl4ad_ros.cli.export import onnx
from vl4ad_ros.cli.options import progress_bar
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.compile import compile_file
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet, load_compiled

if TYPE_CHECKING:
    from vl4ad_ros.network.head import SegmentationHead

ABOVE_TOLERANCE = 1

VOCABULARY = "coco_panoptic"
ROAD_SETS = ("cityscapes", "cityscapes_ood")
"""Prompt sets of an imported bundle, the default first."""


def import_fcclip(
    checkpoint: Path,
    /,
    *,
    out: Path | None = None,
    bundle: Path | None = None,
    size: str = "1152x2048",
    precision: Literal["float32", "float16"] = "float16",
    verify: Path | None = None,
    tolerance: float = 1e-4,
    backbone: str = "open_clip:convnext_large_d_320",
    text_encoder: str = "open_clip:convnext_large_d_320/laion2b_s29b_b131k_ft_soup",
    clip_weights: Path | None = None,
    train_vocabulary: Path | None = None,
    ensemble: Literal["on_valid_mask", "always", "off"] = "on_valid_mask",
) -> int:
    """Import a checkpoint in FC-CLIP's layout, or check its head against recorded outputs of the reference.

    Args:
        checkpoint: The checkpoint (.pth); read with weights only, no code is run.
        out: Folder for network.json, network.safetensors, text_encoder.safetensors.
        bundle: Folder of a bundle, which is made from the network with the road scenes' prompt sets; needs --out, too.
        size: The bundle's input size, HxW; 16:9 as most cameras' images, which are resized to it.
        precision: Of the bundle's graph.
        verify: Recorded inputs and outputs (.npz) of the reference's head; attention heads from config.json beside it.
        tolerance: Largest absolute error that --verify accepts.
        backbone: CLIP's architecture.
        text_encoder: Id of the text encoder that belongs to the backbone.
        clip_weights: open_clip's weights file, for a checkpoint without backbone.
        train_vocabulary: Compiled prompt set of the training classes; default: the shipped coco_panoptic.
        ensemble: Where the head's classes are joined with CLIP's own (geometric ensemble): the reference does it
            always, on_valid_mask leaves out masks without a pixel at stride 32, which are small obstacles.
    """
    if out is None and verify is None:
        raise Vl4adError("Nothing to do: give --out DIR to import the checkpoint, or --verify IO.npz to check it.")
    if bundle is not None and out is None:
        raise Vl4adError("--bundle needs --out DIR, too: prompt sets are compiled with the text tower there.")
    try:
        from vl4ad_ros.network.checkpoint import CONFIG, save_network, save_tensors
        from vl4ad_ros.network.importing import TEXT_TOWER, add_vocabulary, heads_beside, import_head, import_network
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
    if out is None:
        return 0
    network, text = import_network(imported, backbone, text_encoder, clip_weights)
    tower = out / TEXT_TOWER
    (out / CONFIG).unlink(missing_ok=True)  # not beside the text tower of another one
    save_tensors(text, tower)
    if ensemble != "off":
        vocabulary = load_compiled(train_vocabulary) if train_vocabulary else _compile(VOCABULARY, text_encoder, tower)
        add_vocabulary(network, vocabulary, ensemble == "on_valid_mask")
        print(f"ensemble: {len(vocabulary.concepts)} concepts of '{vocabulary.name}' count as seen")
    for path in (tower, *save_network(network, out)):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    print(f"temperature of Eq. 1: {network.temperature:.5g}")
    if bundle is not None:
        sets = [_compile(name, text_encoder, tower) for name in ROAD_SETS]
        paths = [out / f"{compiled.name}.safetensors" for compiled in sets]
        for compiled, path in zip(sets, paths, strict=True):
            compiled.save(path)
        onnx(out, out=bundle, prompts=paths, size=size, precision=precision)
    return 0


def _compile(name: str, text_encoder: str, tower: Path) -> CompiledPromptSet:
    """Embed a shipped prompt set with the imported text tower and the templates of the reference."""
    encoder = create_encoder(text_encoder, tower)
    compiled = compile_file(prompt_yaml(name), encoder, progress_bar(f"embedding {name}", "text"), "vild")
    return replace(compiled, file_sha256=sha256_file(tower))


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
