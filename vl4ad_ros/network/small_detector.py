"""The small dense network with the graph contract: from the uint8 image and the prompt inputs to the score."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl4ad_ros.network.random_word_graph import blend, probability
from vl4ad_ros.network.score_graph import dense_score
from vl4ad_ros.network.small import SmallNetwork


class SmallDetector(nn.Module):
    """A trained network with its learned void vector, ready for the export.

    Args:
        network: the network.
        void: [D], the learned void vector; any length.
    """

    void: Tensor

    def __init__(self, network: SmallNetwork, void: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("void", F.normalize(void.detach().clone(), dim=0))

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
        """Return the raw score u [B, H/8, W/8]; arguments as of `vl4ad_ros.network.model.VL4ADNetwork.forward`."""
        # Cast first: TensorRT has no transpose for 8-bit integers.
        embedding = self.network(image.float().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        rows = [text_embeddings, self.void[None]]
        if random_word_rows is not None:
            rows.append(random_word_rows)
        dots = self.network.cosines(embedding, torch.cat(rows))
        concepts = text_embeddings.shape[0]
        raw = dense_score(dots[..., :concepts], class_concepts, class_mask, settings, dots[..., concepts])
        if random_word_rows is None or random_word_head is None:
            return raw
        p = probability(dots[..., concepts + 1 :], random_word_head)
        return blend(raw, p, settings)
