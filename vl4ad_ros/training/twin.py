"""The prompt set that scores a learner: texts, or the class vectors of a vision-only twin in their place."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from vl4ad_ros.prompts.encoders import CLASSES_PREFIX
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.training.mask_learner import MaskLearner
from vl4ad_ros.training.objective import Learner
from vl4ad_ros.training.text import TextTable


def prompts_of(learner: Learner, text: TextTable, name: str = "classes") -> CompiledPromptSet:
    """The default prompt set; of a learner with a linear head its classes.

    Args:
        learner: what is scored.
        text: frozen texts.
        name: of the set, and of the encoder, where there is no text.
    """
    if isinstance(learner, MaskLearner):
        if not learner.linear:
            return text.prompts
        encoder_id, vectors = CLASSES_PREFIX + "|".join(text.columns), np.eye(text.classes, dtype=np.float32)
    else:
        if learner.class_vectors is None:
            return text.prompts
        encoder_id = f"linear:{name}"
        vectors = F.normalize(learner.class_vectors.detach(), dim=1).cpu().numpy().copy()
    return CompiledPromptSet(
        name=name,
        description="Learned class vectors of the vision-only twin; no text",
        columns=text.columns,
        members=tuple((column,) for column in text.columns),
        concepts=text.columns,
        concept_column=np.arange(text.classes, dtype=np.int32),
        embeddings=vectors,
        num_id=text.classes,
        temperature=None,
        encoder_id=encoder_id,
        source_sha256="",
    )
