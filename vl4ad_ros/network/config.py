"""The sizes of a VL4AD mask network, as a checked file: all that is needed to build it before weights are loaded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vl4ad_ros.io.checked import Checked

# FC-CLIP's configuration file (0..255, RGB); CLIP's own normalisation times 255.
CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)


class HeadConfig(Checked):
    """Sizes of pixel decoder, query decoder and class head; the defaults are FC-CLIP's on `convnext_large_d_320`."""

    # Channels of the backbone's features at strides 4, 8, 16 and 32.
    feature_channels: tuple[int, int, int, int] = (192, 384, 768, 1536)
    # Channels inside the pixel decoder; a multiple of 32 (group norm) and of `num_heads`.
    conv_dim: int = Field(default=256, ge=32, multiple_of=32)
    hidden_dim: int = Field(default=256, ge=2, multiple_of=2)  # width of the queries; a multiple of `num_heads`
    # Channels of the mask features; the class head projects them, pooled, to `hidden_dim`.
    mask_dim: int = Field(default=256, ge=1)
    num_heads: int = Field(default=8, ge=1)
    encoder_layers: int = Field(default=6, ge=1)  # deformable-attention layers of the pixel decoder
    encoder_ffn: int = Field(default=1024, ge=1)  # inner width of their feed-forward nets
    decoder_layers: int = Field(default=9, ge=1)  # masked-attention layers of the query decoder
    decoder_ffn: int = Field(default=2048, ge=1)  # inner width of their feed-forward nets
    num_queries: int = Field(default=250, ge=1)  # N
    embedding_dim: int = Field(default=768, ge=1)  # width of the visual embedding v; D of the text embeddings
    # Whether the query decoder projects the pixel decoder's features although the widths agree.
    input_projection: bool = False
    # None: classes come as text embeddings. Names: the vision-only twin, a learned linear classifier over exactly these
    # classes.
    classes: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _fits(self) -> HeadConfig:
        for name in ("conv_dim", "hidden_dim"):
            if getattr(self, name) % self.num_heads:
                raise ValueError(f"{name} ({getattr(self, name)}) is no multiple of num_heads ({self.num_heads})")
        if self.classes is not None and (not self.classes or len(set(self.classes)) != len(self.classes)):
            raise ValueError("classes must be different names, at least one")
        return self

    @property
    def text_dim(self) -> int:
        """D of the prompt inputs: of the text embeddings, or the number of classes of the vision-only twin."""
        return self.embedding_dim if self.classes is None else len(self.classes)


class EnsembleConfig(Checked):
    """The out-of-vocabulary branch: geometric ensemble with CLIP's own mask-pooled features (FC-CLIP, sec. 3.4)."""

    # Exponent of CLIP's own posterior for classes of the training vocabulary (FC-CLIP: 0.4).
    seen: float = Field(default=0.4, ge=0, le=1)
    unseen: float = Field(default=0.8, ge=0, le=1)  # the same for all other classes (FC-CLIP: 0.8)
    # Number of concepts in the training vocabulary, whose embeddings travel with the weights.
    vocabulary_size: int = Field(ge=1)
    # Those that the vocabulary was compiled with; prompt sets need the same, else their trained classes would count as
    # unseen. None compares nothing.
    templates: tuple[str, ...] | None = None
    # Whether a mask without a positive pixel at stride 32 leaves CLIP's own posterior out, which would be that of a
    # zero vector (the reference's ENSEMBLE_ON_VALID_MASK, there off). On for road use: such masks are small obstacles.
    on_valid_mask: bool = True


class NetworkConfig(Checked):
    """A whole network."""

    format: str = "vl4ad_ros.network/1"
    # `open_clip:MODEL` (a ConvNeXt image tower of open_clip), `timm:MODEL` (a plain ConvNeXt), or `efficientnet:lite0`
    # (small, without an out-of-vocabulary branch).
    backbone: str = "open_clip:convnext_large_d_320"
    # Id of the text encoder whose embeddings it understands.
    text_encoder: str = "open_clip:convnext_large_d_320/laion2b_s29b_b131k_ft_soup"
    head: HeadConfig = HeadConfig()
    ensemble: EnsembleConfig | None = None
    # What is resized from the masks' resolution, stride 4, to the network's input (`vl4ad_ros.network.image_score`):
    # the `classes`, the `masks`, or nothing here, so that whoever takes the `score` resizes it.
    resize: Literal["classes", "masks", "score"] = "classes"
    mean: tuple[float, float, float] = CLIP_MEAN  # subtracted per RGB channel (0..255)
    std: tuple[float, float, float] = CLIP_STD  # divided by per RGB channel
    origin: str = "random initialisation"  # where the weights come from, one line for the bundle's card

    @model_validator(mode="after")
    def _fits(self) -> NetworkConfig:
        if self.ensemble is not None and self.head.classes is not None:
            raise ValueError("the vision-only twin has no out-of-vocabulary branch")
        if self.ensemble is not None and self.backbone.startswith("efficientnet:"):
            raise ValueError(f"the backbone '{self.backbone}' has no text space, so no out-of-vocabulary branch")
        return self


VL4AD_L = NetworkConfig()
"""FC-CLIP's sizes: ConvNeXt-L, 250 queries, 9 decoder layers."""

VL4AD_TINY = NetworkConfig(
    backbone="timm:convnext_atto",
    text_encoder="minilm:all-MiniLM-L6-v2",
    head=HeadConfig(
        feature_channels=(40, 80, 160, 320),
        conv_dim=64,
        hidden_dim=64,
        mask_dim=64,
        num_heads=4,
        encoder_layers=2,
        encoder_ffn=128,
        decoder_layers=3,
        decoder_ffn=128,
        num_queries=32,
        embedding_dim=384,
    ),
)
"""The same structure in small, for tests and machines without a GPU: seconds instead of minutes."""

VL4AD_LITE = NetworkConfig(
    backbone="efficientnet:lite0",
    text_encoder="minilm:all-MiniLM-L6-v2",
    head=VL4AD_TINY.head.model_copy(
        update={
            "feature_channels": (24, 40, 112, 320),
            "num_heads": 8,
            "encoder_ffn": 256,
            "decoder_ffn": 256,
            "num_queries": 64,
        }
    ),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)
"""Can be trained on a CPU in an hour, on ImageNet features: to measure on learnt masks, not for a vehicle."""

PRESETS: dict[str, NetworkConfig] = {"vl4ad-l": VL4AD_L, "vl4ad-tiny": VL4AD_TINY, "vl4ad-lite": VL4AD_LITE}
