"""The VL4AD mask network: from uint8 images and prompt tensors to the raw anomaly score, as one exportable module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.backbone import LITE, ClipBackbone, Features, FrozenBackbone, LiteBackbone
from vl4ad_ros.network.config import NetworkConfig
from vl4ad_ros.network.head import Prediction, SegmentationHead, VocabularyEnsemble
from vl4ad_ros.network.image_score import FACTOR, score_of_resized_classes, score_of_resized_masks
from vl4ad_ros.network.score_graph import blend, class_weights, mean_probability, score_of_masks

SCORES = {"classes": score_of_resized_classes, "masks": score_of_resized_masks, "score": score_of_masks}


class VL4ADNetwork(nn.Module):
    """A frozen CLIP image tower, a trained segmentation head, and the score."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        """Build the network with random weights; nothing is downloaded (`checkpoint.load_network` loads weights)."""
        super().__init__()
        self.config = config
        name, dim = config.backbone, config.head.embedding_dim
        self.backbone: FrozenBackbone = LiteBackbone() if name == LITE else ClipBackbone(name, dim)
        if self.backbone.channels != config.head.feature_channels:
            raise Vl4adError(
                f"The backbone '{config.backbone}' has features of {self.backbone.channels} channels, "
                f"but the head takes {config.head.feature_channels}."
            )
        self.head = SegmentationHead(config.head)
        self.ensemble = VocabularyEnsemble(config.ensemble, config.head.text_dim) if config.ensemble else None
        self.register_buffer("mean", torch.tensor(config.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).reshape(1, 3, 1, 1), persistent=False)

    def features(self, image: Tensor) -> Features:
        """Return the frozen features of uint8 RGB images [B, H, W, 3], H and W multiples of 32, at strides 4 to 32."""
        # Cast first: TensorRT has no transpose for 8-bit integers.
        normalised = (image.to(self.mean.dtype).permute(0, 3, 1, 2) - self.mean) / self.std
        features: Features = self.backbone(normalised)
        return features

    def queries(
        self, image: Tensor, text_embeddings: Tensor, class_concepts: Tensor, class_mask: Tensor, settings: Tensor
    ) -> tuple[Prediction, Tensor]:
        """Return the last layer's prediction, and Eq. 1 of each query: [B, N, C]; arguments as of `forward`."""
        features = self.features(image)
        prediction = self.head(features)[-1]
        if self.ensemble is not None and isinstance(self.backbone, ClipBackbone):
            dense = self.backbone.dense(features[-1])
            prompts = (text_embeddings, class_concepts, class_mask, settings)
            return prediction, self.ensemble(prediction, self.backbone, dense, *prompts)
        cosines = torch.matmul(prediction.embeddings, text_embeddings.transpose(0, 1))
        return prediction, class_weights(cosines, class_concepts, class_mask, settings, prediction.void)

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
        """Score images uint8 RGB [B, H, W, 3], H and W multiples of 32.

        Text embeddings are float [P, D], unit rows, `class_concepts` int [C, L], `class_mask` float [2, C], `settings`
        float [9], as `vl4ad_ros.runtime.prompt_tensors` packs them; the second method's weights float [H + 1, D] and
        [3, H + 1], or None, as `RandomWordNetwork.graph_inputs` gives them. Returns the raw score u, float [B, H /
        stride, W / stride], higher = more anomalous.
        """
        prediction, weights = self.queries(image, text_embeddings, class_concepts, class_mask, settings)
        logits = prediction.mask_logits
        raw = SCORES[self.config.resize](logits, weights, class_mask, settings)
        if random_word_rows is None or random_word_head is None:
            return raw
        dots = torch.matmul(prediction.embeddings, random_word_rows.transpose(0, 1))
        # What no mask claims has the mean of all queries.
        p = mean_probability(logits.clamp(min=-12.0), dots, random_word_head)
        if self.stride == 1:
            p = F.interpolate(p.unsqueeze(1), scale_factor=float(FACTOR), mode="bilinear", align_corners=False)[:, 0]
        return blend(raw, p, settings)

    @property
    def stride(self) -> int:
        """Network input pixels per score pixel: 4 where the score is left to be resized, else 1."""
        return FACTOR if self.config.resize == "score" else 1

    @property
    def temperature(self) -> float:
        """The model's own T of Eq. 1: 1 / min(exp(logit_scale), 100); 1 for the vision-only twin."""
        return 1.0 / float(self.head.scale().detach())
