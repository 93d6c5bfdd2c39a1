"""The training loss of the mask network: Hungarian matching, then class, mask and dice terms after every layer.

transformers' Mask2Former loss is FC-CLIP's; its "no object" class is our learned void column.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from vl4ad_ros.network.head import Prediction, SegmentationHead

_TERMS = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}


class HungarianLoss(nn.Module):
    """Weighted loss terms of a batch, summed over the decoder's layers."""

    def __init__(
        self,
        num_classes: int,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        points: int = 12544,
    ) -> None:
        """Set the weights; the defaults are FC-CLIP's.

        Args:
            num_classes: K, the classes of the training vocabulary.
            class_weight: Weight of the classification's cross-entropy, in the matching and in the loss.
            mask_weight: The same for the masks' binary cross-entropy.
            dice_weight: The same for the masks' dice loss.
            no_object_weight: Weight of the void class inside the cross-entropy.
            points: Points per mask at which the mask terms are sampled.
        """
        super().__init__()
        config = Mask2FormerConfig(
            num_labels=num_classes,
            class_weight=class_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            no_object_weight=no_object_weight,
            train_num_points=points,
        )
        self._weights = {"class": class_weight, "mask": mask_weight, "dice": dice_weight}
        self._loss = Mask2FormerLoss(config=config, weight_dict=self._weights)

    def forward(
        self,
        head: SegmentationHead,
        predictions: Sequence[Prediction],
        text_embeddings: Tensor,
        class_concepts: Tensor,
        masks: Sequence[Tensor],
        classes: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Return the terms `class`, `mask` and `dice`; their sum is what is minimised.

        Args:
            head: The head that predicted.
            predictions: After each layer (`head(features, auxiliary=True)`).
            text_embeddings: [P, D], unit rows.
            class_concepts: int [K, L], rows of `text_embeddings` per class.
            masks: Per picture, float [M, H, W], 1 inside; any size, M may be 0. All pictures' in one size.
            classes: Per picture, int [M], 0 <= class < K.
        """
        total = {name: torch.zeros((), device=text_embeddings.device) for name in _TERMS}
        for prediction in predictions:
            logits = head.class_logits(prediction, text_embeddings, class_concepts)
            terms = self._loss(prediction.mask_logits, logits, list(masks), list(classes))
            for name, key in _TERMS.items():
                total[name] = total[name] + self._weights[name] * terms[key]
        return total
