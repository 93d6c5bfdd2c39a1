"""The out-of-vocabulary branch: FC-CLIP's geometric ensemble of the learned classifier and frozen CLIP's own.

With p_in and p_out the posteriors over the softmax columns (void left out), a per column: a = `seen` where the training
vocabulary has one of the column's concepts, else `unseen`:

    c[k] = softmax_k( log( p_in[k]^(1-a) p_out[k]^a ) ) (1 - p_void)

With `on_valid_mask`, a = 0 for a mask without a positive pixel at stride 32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl4ad_ros.network.backbone import ClipBackbone
from vl4ad_ros.network.config import EnsembleConfig
from vl4ad_ros.network.head import MAX_LOGIT_SCALE, Prediction, mask_pool
from vl4ad_ros.network.score_graph import FAR_BELOW, column_cosines
from vl4ad_ros.runtime.scores import SCORINGS

# A concept counts as one of the training vocabulary above this cosine: the same text, up to float16 rounding.
SAME_CONCEPT = 0.998


class VocabularyEnsemble(nn.Module):
    """Class weights with the out-of-vocabulary branch."""

    # [V, D], unit rows: text embeddings of the concepts that the head was trained with. Which columns of a prompt set
    # are "seen" follows from it inside the graph, so that prompt sets can be swapped freely.
    vocabulary: Tensor

    def __init__(self, config: EnsembleConfig, text_dim: int) -> None:
        super().__init__()
        self.seen = config.seen
        self.unseen = config.unseen
        self.on_valid_mask = config.on_valid_mask
        self.register_buffer("vocabulary", torch.zeros(config.vocabulary_size, text_dim))

    def exponents(self, text_embeddings: Tensor, class_concepts: Tensor) -> Tensor:
        """Return a per column, [C]."""
        nearest = torch.matmul(text_embeddings, self.vocabulary.transpose(0, 1)).amax(dim=1)
        is_seen = column_cosines(nearest, class_concepts) > SAME_CONCEPT
        return self.unseen + (self.seen - self.unseen) * is_seen.to(nearest.dtype)

    def forward(
        self,
        prediction: Prediction,
        backbone: ClipBackbone,
        dense: Tensor,
        text_embeddings: Tensor,
        class_concepts: Tensor,
        class_mask: Tensor,
        settings: Tensor,
    ) -> Tensor:
        """Return the class weights of Eq. 2, [B, N, C]; 0 in columns that take no part.

        Where the max-logit score is selected, they are the two classifiers' logits, averaged with the same exponents.
        `dense` is CLIP's feature [B, channels, h, w] at stride 32; the prompt inputs are those of
        `vl4ad_ros.network.score_graph`.
        """
        masks = F.interpolate(prediction.mask_logits, size=dense.shape[-2:], mode="bilinear", align_corners=False)
        pooled = F.normalize(backbone.embed_pooled(mask_pool(dense, masks)), dim=-1)
        clip_scale = backbone.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        takes_part = class_mask[0]

        def logits(embeddings: Tensor, scale: Tensor) -> Tensor:
            cosines = torch.matmul(embeddings, text_embeddings.transpose(0, 1))
            return column_cosines(cosines, class_concepts) * scale * takes_part + (1 - takes_part) * FAR_BELOW

        inner, outer = logits(prediction.embeddings, settings[0]), logits(pooled, clip_scale)
        share = self.exponents(text_embeddings, class_concepts)
        if self.on_valid_mask:
            share = share * (masks > 0).flatten(2).any(dim=2, keepdim=True).to(share.dtype)
        with_void = torch.cat([inner, prediction.void.unsqueeze(-1) * settings[0]], dim=-1)
        not_void = 1 - torch.softmax(with_void, dim=-1)[..., -1:]
        mixed = (1 - share) * inner.log_softmax(dim=-1) + share * outer.log_softmax(dim=-1)
        posterior = mixed.softmax(dim=-1) * not_void
        mean = (1 - share) * inner + share * outer
        weights: Tensor = (posterior + settings[1 + SCORINGS.index("max_logit")] * (mean - posterior)) * takes_part
        return weights
