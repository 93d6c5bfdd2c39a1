"""A network with both methods whose answer is known on paper: a pixel's visual embedding is its colour."""

from __future__ import annotations

from pathlib import Path

import torch
from mock_bundle import compiled_set, mock_card
from torch import Tensor, nn

from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.score_graph import blend, dense_score, probability
from vl4ad_ros.runtime.bundle import ModelBundle


class Colours(nn.Module):
    """A pixel's visual embedding is its normalised RGB vector, at every fourth row and column."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("unused", nn.Parameter(torch.zeros(1)))

    def forward(
        self,
        image: Tensor,
        text_embeddings: Tensor,
        class_concepts: Tensor,
        class_mask: Tensor,
        settings: Tensor,
        random_word_rows: Tensor | None = None,
        random_word_head: Tensor | None = None,
    ) -> Tensor:
        v = nn.functional.normalize(image.float()[:, ::4, ::4] + 1e-6, dim=-1)
        raw = dense_score(v @ text_embeddings.T, class_concepts, class_mask, settings)
        if random_word_rows is None or random_word_head is None:
            return raw
        return blend(raw, probability(v @ random_word_rows.T, random_word_head), settings)


def write_both_bundle(path: Path) -> ModelBundle:
    """Write the bundle, prompt set `traffic` (red, green), without a random-word network."""
    card = mock_card("colours", methods=["vl4ad", "random_word"])
    return write_bundle(Colours().eval(), path, card, [compiled_set()])
