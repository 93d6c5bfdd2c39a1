"""The segmentation head (FC-CLIP: arXiv 2308.02487), and its ensemble with CLIP for other vocabularies."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerMLPPredictionHead

from vl4ad_ros.network.backbone import ClipBackbone
from vl4ad_ros.network.config import EnsembleConfig, HeadConfig
from vl4ad_ros.network.decoder import DecoderState, PixelDecoder, QueryDecoder
from vl4ad_ros.network.score_graph import FAR_BELOW, column_cosines
from vl4ad_ros.runtime.scores import SCORINGS

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


# A concept counts as one of the training vocabulary above this cosine: the same text, up to float16 rounding.
SAME_CONCEPT = 0.998


class VocabularyEnsemble(nn.Module):
    """Class weights with the out-of-vocabulary branch: FC-CLIP's geometric ensemble of the classifier and CLIP's own.

    With p_in and p_out the posteriors over the softmax columns (void left out), and a per column: a = `seen` where the
    training vocabulary has one of the column's concepts, else `unseen`:

        c[k] = softmax_k( log( p_in[k]^(1-a) p_out[k]^a ) ) (1 - p_void)

    With `on_valid_mask`, a = 0 for a mask without a positive pixel at stride 32.
    """

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
