"""The mask network under training: a frozen image tower, a trained head, Hungarian matching (Mask2Former's losses)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.backbone import LITE, ClipBackbone, LiteBackbone
from vl4ad_ros.network.checkpoint import CONFIG as NETWORK_CONFIG
from vl4ad_ros.network.checkpoint import load_config as load_network_config
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.network.config import NetworkConfig
from vl4ad_ros.network.head import Prediction
from vl4ad_ros.network.lite_encoder import load_encoder_weights
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.training.config import MaskLosses, Model
from vl4ad_ros.training.label_tables import IGNORE, LabelTable
from vl4ad_ros.training.learner import encoder_weights_file
from vl4ad_ros.training.losses import Term
from vl4ad_ros.training.text import TextTable

UNCLAIMED = -20.0
"""Mask logit that stands at pixels without a label: whatever is sampled there costs nothing and has no gradient."""

LEAST = 1e-6
"""Probabilities are kept above this before their logarithm is taken."""


class MaskLearner(nn.Module):
    """A mask network with its classifier; only the head is trained.

    Args:
        model: settings; `network` is a preset or the folder of a network.
        text: frozen texts.
        classes: the vocabulary's class names, for the linear head.
    """

    def __init__(self, model: Model, text: TextTable, classes: tuple[str, ...]) -> None:
        super().__init__()
        config = network_sizes(model, text.concepts.shape[1])
        linear = model.head == "linear"
        if linear:
            config = config.model_copy(update={"head": config.head.model_copy(update={"classes": classes})})
        stored = is_stored(model)
        self.network = load_network(model.network) if stored and not linear else VL4ADNetwork(config)
        tower = self.network.backbone
        if isinstance(tower, LiteBackbone) and not stored and model.encoder_weights == "imagenet":
            load_encoder_weights(tower.encoder, encoder_weights_file())
        if model.backbone is not None and isinstance(tower, ClipBackbone):
            load_tower(tower, model.backbone)
        # The vision-only twin's "text" is the identity: one row per class.
        concepts = torch.eye(len(classes)) if linear else text.concepts
        self.register_buffer("concepts", concepts, persistent=False)
        self.linear = linear
        self.concepts: Tensor

    @property
    def temperature(self) -> float:
        """The learned T."""
        return self.network.temperature

    def _class_logits(self, prediction: Prediction, class_concepts: Tensor) -> Tensor:
        table = torch.arange(len(self.concepts))[:, None] if self.linear else class_concepts
        return self.network.head.class_logits(prediction, self.concepts, table.to(self.concepts.device))

    def forward(self, image: Tensor, class_concepts: Tensor, auxiliary: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Mask logits and class logits (void last) of the last layer, with `auxiliary` of all layers.

        Args:
            image: RGB [B,3,H,W], 0 to 255.
            class_concepts: int64 [K,L]; not used by the linear head.
            auxiliary: whether to predict after every decoder layer.

        Returns:
            Pairs of [B,N,H/4,W/4] and [B,N,K+1], the last layer's last.
        """
        features = self.network.features(image.permute(0, 2, 3, 1))
        predictions = self.network.heads(features, auxiliary)
        return [(prediction.mask_logits, self._class_logits(prediction, class_concepts)) for prediction in predictions]

    def dense_logits(self, image: Tensor, class_concepts: Tensor) -> Tensor:
        """Return log S of each class, and of what no class claims: [B,K+1,H/4,W/4]."""
        masks, logits = self(image, class_concepts)[-1]
        support = torch.einsum("bnk,bnhw->bkhw", logits.softmax(-1)[..., :-1], masks.sigmoid())
        rest = 1 - support.amax(1, keepdim=True)
        return torch.cat([support, rest], dim=1).clamp(min=LEAST).log()


def is_stored(model: Model) -> bool:
    """Whether the network is a folder with weights, not a preset."""
    return (Path(model.network) / NETWORK_CONFIG).is_file()


def network_sizes(model: Model, text_dim: int) -> NetworkConfig:
    """The sizes of the network that the settings name, which is then sure to fit the text and the backbone's file.

    Args:
        model: settings; `network` is a preset or the folder of a network.
        text_dim: D of the text encoder.

    Raises:
        Vl4adError: there is no such network, it is of another text space, or the backbone's file does not fit.
    """
    config = load_network_config(model.network)
    if model.head == "text" and config.head.embedding_dim != text_dim:
        raise Vl4adError(
            f"The network '{model.network}' has embeddings of {config.head.embedding_dim} numbers, the text "
            f"encoder {text_dim}; set text_encoder to '{config.text_encoder}'."
        )
    if config.backbone == LITE:
        if model.backbone is not None:
            raise Vl4adError("model.backbone: only CLIP's towers take an open_clip checkpoint; leave it out")
        if model.encoder_weights == "imagenet" and not is_stored(model):
            encoder_weights_file()
    elif model.backbone is not None and not model.backbone.is_file():
        raise Vl4adError(f"model.backbone: there is no file {model.backbone}")
    return config


def load_tower(backbone: ClipBackbone, file: Path) -> None:
    """Load the image tower from an open_clip checkpoint: `.safetensors`, or a state dict that needs no code to load.

    Raises:
        Vl4adError: the file holds another tower.
    """
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(str(file))
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
    tower = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    missing = backbone.visual.load_state_dict(tower, strict=False).missing_keys if tower else ["visual.*"]
    if missing:
        raise Vl4adError(f"{file} lacks {len(missing)} weights of the image tower, the first is '{missing[0]}'")
    if "logit_scale" in state:
        backbone.logit_scale.copy_(state["logit_scale"])


def segments(rows: Tensor, table: LabelTable) -> tuple[list[Tensor], list[Tensor]]:
    """Turn row maps into one mask per class that is there.

    Args:
        rows: uint8 [B,h,w].
        table: its rows; each stands for one class, or void.

    Returns:
        Per picture float masks [n,h,w] and int64 classes [n].
    """
    class_of = torch.from_numpy(table.rows.argmax(1))
    masks, classes = [], []
    for row_map in rows:
        present = [row for row in row_map.unique().tolist() if row not in (IGNORE, table.void)]
        masks.append(torch.stack([(row_map == row).float() for row in present]) if present else _no_mask(row_map))
        classes.append(class_of[present].to(rows.device))
    return masks, classes


def _no_mask(row_map: Tensor) -> Tensor:
    return torch.zeros((0, *row_map.shape), device=row_map.device)


def make_criterion(settings: MaskLosses, classes: int) -> Mask2FormerLoss:
    """Mask2Former's loss with matching; the weights also weigh the matching costs."""
    config = Mask2FormerConfig(
        num_labels=classes,
        class_weight=settings.classes,
        mask_weight=settings.mask,
        dice_weight=settings.dice,
        no_object_weight=settings.no_object,
        train_num_points=settings.points,
    )
    return Mask2FormerLoss(config, {})


def mask_terms(
    learner: MaskLearner,
    criterion: Mask2FormerLoss,
    settings: MaskLosses,
    image: Tensor,
    rows: Tensor,
    table: LabelTable,
    class_concepts: Tensor,
) -> dict[str, tuple[float, Term]]:
    """The loss terms of a batch, summed over decoder layers; each process's mean counts by its number of pictures.

    Pixels without a label, a sample's mirrored border among them, take no part: not in the matching, not in the masks.
    """
    ignored = (rows == IGNORE)[:, None]
    predictions = [
        (masks.float().masked_fill(ignored, UNCLAIMED), logits.float())
        for masks, logits in learner(image, class_concepts, auxiliary=True)
    ]
    masks, classes = segments(rows, table)
    earlier = [{"masks_queries_logits": m, "class_queries_logits": c} for m, c in predictions[:-1]]
    last_masks, last_classes = predictions[-1]
    losses = criterion(last_masks, last_classes, masks, classes, earlier)
    weights = {"cross_entropy": settings.classes, "mask": settings.mask, "dice": settings.dice}
    count = torch.tensor(float(len(image)), device=image.device)
    terms: dict[str, tuple[float, Term]] = {}
    for name, weight in weights.items():
        total = torch.stack([value for key, value in losses.items() if key.startswith(f"loss_{name}")]).sum()
        terms[name] = (weight, Term(total * count, count))
    if settings.outlier:
        outlier = outlier_term(last_masks, last_classes, rows == table.void, settings.margin)
        terms["outlier"] = (settings.outlier, outlier)
    return terms


def outlier_term(mask_logits: Tensor, class_logits: Tensor, outside: Tensor, margin: float) -> Term:
    """RbA's squared hinge: no class may claim pixels that are outside all of them.

    Args:
        mask_logits: [B,N,h,w].
        class_logits: [B,N,K+1], void last.
        outside: bool [B,h,w].
        margin: see `config.MaskLosses.margin`.
    """
    support = torch.einsum("bnk,bnhw->bhwk", class_logits.softmax(-1)[..., :-1], mask_logits.sigmoid())
    rejected = -support[outside].tanh().sum(-1)
    return Term((margin - rejected).clamp(min=0).square().sum(), outside.sum().float())


def check_single_classes(table: LabelTable) -> None:
    """Refuse label tables whose labels stand for several classes: a matched query needs one class.

    Raises:
        Vl4adError: names such a label's classes.
    """
    for row in range(table.void):
        members = [name for name, inside in zip(table.classes, table.rows[row], strict=True) if inside]
        if len(members) > 1:
            raise Vl4adError(
                f"A label stands for several classes ({', '.join(members)}), which mask networks cannot learn from: "
                "give the vocabulary one class for it, or train the network 'small'."
            )
