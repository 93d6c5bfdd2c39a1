"""A small random mask network with the graph contract, and its bundle: for tests of export, engines and benches."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from mock_bundle import ColourEncoder, compiled_set, mock_card, mock_prompt_sets
from torch import Tensor, nn

from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.score_graph import class_weights, score_of_masks
from vl4ad_ros.runtime.bundle import BundleCard, InputSpec, ModelBundle

HEIGHT, WIDTH, STRIDE, QUERIES = 64, 96, 4, 6


class TinyMaskNetwork(nn.Module):
    """Convolutions, one attention layer from queries to pixels, masks and embeddings per query, the score."""

    def __init__(self, channels: int = 16, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, channels, 4, 4), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.queries = nn.Parameter(torch.randn(QUERIES, channels))
        self.norm = nn.LayerNorm(channels)
        self.embed = nn.Linear(channels, ColourEncoder.dim)

    def forward(
        self, image: Tensor, text_embeddings: Tensor, class_concepts: Tensor, class_mask: Tensor, settings: Tensor
    ) -> Tensor:
        x = (image.to(torch.float32) / 128 - 1).permute(0, 3, 1, 2)
        features = self.backbone(x)
        pixels = features.flatten(2).transpose(1, 2)
        attention = torch.softmax(self.queries @ pixels.transpose(1, 2), dim=-1)
        queries = self.norm(self.queries + attention @ pixels)
        masks = torch.einsum("bnc,bchw->bnhw", queries, features)
        embeddings = nn.functional.normalize(self.embed(queries), dim=-1)
        weights = class_weights(embeddings @ text_embeddings.T, class_concepts, class_mask, settings)
        return score_of_masks(masks, weights, class_mask, settings)


def tiny_card(resize: Literal["stretch", "keep_aspect"] = "keep_aspect") -> BundleCard:
    size = InputSpec(height=HEIGHT, width=WIDTH, multiple_of=STRIDE, resize=resize)
    return mock_card("tiny", input=size, num_queries=QUERIES, temperature=0.5)


def write_tiny_bundle(path: Path, resize: Literal["stretch", "keep_aspect"] = "keep_aspect") -> ModelBundle:
    sets = [compiled_set(name) for name in mock_prompt_sets()]
    return write_bundle(TinyMaskNetwork().eval(), path, tiny_card(resize), sets)
