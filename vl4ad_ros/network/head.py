"""The segmentation head: features of a frozen backbone in, masks and embeddings out (FC-CLIP: arXiv 2308.02487)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerMLPPredictionHead

from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.decoder import DecoderState, PixelDecoder, QueryDecoder
from vl4ad_ros.network.score_graph import column_cosines

MAX_LOGIT_SCALE = 100.0


class Prediction(NamedTuple):
    """What the head predicts, of its last layer or of one before."""

    mask_logits: Tensor  # [B, N, h, w] at stride 4; s = sigmoid of them
    embeddings: Tensor  # [B, N, D], v_i of unit length; of the vision-only twin: its class logits [B, N, K]
    void: Tensor  # [B, N], cosine to the learned void embedding; of the vision-only twin: the void logit


def mask_pool(features: Tensor, mask_logits: Tensor) -> Tensor:
    """Average features [B, C, h, w] over each query's mask (logit > 0; no gradient): [B, N, C], 0 for an empty mask."""
    inside = (mask_logits.detach() > 0).to(features.dtype).flatten(2)
    # Sum and count are scaled by 1 / sqrt(h w), which keeps both inside the range of float16 for any mask.
    scale = 1.0 / math.sqrt(inside.shape[-1])
    total = torch.matmul(inside, (features * scale).flatten(2).transpose(1, 2))
    count = (inside * scale).sum(dim=-1, keepdim=True)
    return total / count.clamp(min=0.5 * scale)


class ClassHead(nn.Module):
    """Visual embedding of a query: v = MLP( Linear(LN(MaskPool(mask features))) + query )."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.pool_norm = nn.LayerNorm(config.mask_dim)
        self.pool_projection = nn.Linear(config.mask_dim, config.hidden_dim)
        self.embed = Mask2FormerMLPPredictionHead(config.hidden_dim, config.hidden_dim, config.embedding_dim)

    def forward(self, mask_features: Tensor, state: DecoderState) -> Tensor:
        """Return v, [B, N, embedding_dim], not normalised."""
        pooled = mask_pool(mask_features, state.mask_logits)
        embedding: Tensor = self.embed(self.pool_projection(self.pool_norm(pooled)) + state.queries)
        return embedding


class SegmentationHead(nn.Module):
    """Everything that is trained: pixel decoder, query decoder, class head, void embedding, logit scale."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.pixel_decoder = PixelDecoder(config)
        self.query_decoder = QueryDecoder(config)
        self.class_head = ClassHead(config)
        if config.classes is None:
            self.void_embedding = nn.Parameter(torch.randn(1, config.embedding_dim))
            self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        else:
            self.classifier = nn.Linear(config.embedding_dim, len(config.classes) + 1)

    def forward(self, features: tuple[Tensor, ...], auxiliary: bool = False) -> list[Prediction]:
        """Predict from features [B, feature_channels[i], ., .] at strides 4..32; `auxiliary`: after each layer."""
        mask_features, multi_scale = self.pixel_decoder(features)
        states = self.query_decoder(multi_scale, mask_features, auxiliary)
        return [self._predict(mask_features, state) for state in states]

    def _predict(self, mask_features: Tensor, state: DecoderState) -> Prediction:
        raw = self.class_head(mask_features, state)
        if self.config.classes is not None:
            logits = self.classifier(raw)
            return Prediction(state.mask_logits, logits[..., :-1], logits[..., -1])
        unit = F.normalize(raw, dim=-1)
        void = torch.matmul(unit, F.normalize(self.void_embedding, dim=-1).transpose(0, 1)).squeeze(-1)
        return Prediction(state.mask_logits, unit, void)

    def scale(self) -> Tensor:
        """1 / T of Eq. 1, learned: min(exp(logit_scale), 100); 1 for the vision-only twin."""
        if self.config.classes is not None:
            return torch.ones((), device=self.classifier.weight.device)
        return self.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def class_logits(self, prediction: Prediction, text_embeddings: Tensor, class_concepts: Tensor) -> Tensor:
        """Return the logits [B, N, C + 1] that the softmax of Eq. 1 gets in training, void last.

        Text embeddings are [P, D], unit rows; `class_concepts` int [C, L], rows of them per class.
        """
        cosines = torch.matmul(prediction.embeddings, text_embeddings.transpose(0, 1))
        columns = column_cosines(cosines, class_concepts)
        return torch.cat([columns, prediction.void.unsqueeze(-1)], dim=-1) * self.scale()
