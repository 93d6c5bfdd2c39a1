"""The small dense network: one embedding in the text space per pixel, for two CPU cores.

An EfficientNet-Lite0 encoder feeds a context module and a light top-down decoder. The last map e has few channels; the
visual embedding is v = W e in the text space. Only cos(v, t) is ever needed, so W is applied to the text, which is
exact, and no map with as many channels as the text space is made: v . t = e . (W^T t), |v|^2 = e^T (W^T W) e.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl4ad_ros.network.lite_encoder import FEATURE_CHANNELS, PIXEL_MEAN, PIXEL_STD, LiteEncoder
from vl4ad_ros.network.score_graph import blend, dense_score, probability


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
    """Image -> dense embeddings e with `embed_dim` channels, the rank in a text space of width `text_dim`."""

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


class SmallDetector(nn.Module):
    """A trained network with its learned void vector [D], of any length, ready for the export."""

    void: Tensor

    def __init__(self, network: SmallNetwork, void: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("void", F.normalize(void.detach().clone(), dim=0))

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
        """Return the raw score u [B, H/8, W/8]; arguments as of `vl4ad_ros.network.model.VL4ADNetwork.forward`."""
        # Cast first: TensorRT has no transpose for 8-bit integers.
        embedding = self.network(image.float().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        rows = [text_embeddings, self.void[None]]
        if random_word_rows is not None:
            rows.append(random_word_rows)
        dots = self.network.cosines(embedding, torch.cat(rows))
        concepts = text_embeddings.shape[0]
        raw = dense_score(dots[..., :concepts], class_concepts, class_mask, settings, dots[..., concepts])
        if random_word_rows is None or random_word_head is None:
            return raw
        p = probability(dots[..., concepts + 1 :], random_word_head)
        return blend(raw, p, settings)
