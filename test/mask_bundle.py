"""The real mask network in its smallest form, with random weights, as a bundle that carries the network as well."""

from __future__ import annotations

from pathlib import Path

import torch
from mock_bundle import ColourEncoder, compiled_set, mock_card, mock_prompt_sets

from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.config import HeadConfig, NetworkConfig
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.runtime.bundle import InputSpec, ModelBundle

HEIGHT, WIDTH = 64, 96
CONFIG = NetworkConfig(
    backbone="timm:convnext_atto",
    text_encoder=ColourEncoder.id,
    head=HeadConfig(
        feature_channels=(40, 80, 160, 320),
        conv_dim=32,
        hidden_dim=32,
        mask_dim=32,
        num_heads=4,
        encoder_layers=1,
        encoder_ffn=32,
        decoder_layers=2,
        decoder_ffn=32,
        num_queries=8,
        embedding_dim=ColourEncoder.dim,
    ),
)


def mask_network() -> VL4ADNetwork:
    torch.manual_seed(0)
    return VL4ADNetwork(CONFIG).eval()


def write_mask_bundle(path: Path) -> ModelBundle:
    network = mask_network()
    size, queries = InputSpec(height=HEIGHT, width=WIDTH), CONFIG.head.num_queries
    card = mock_card("mask", input=size, num_queries=queries, stride=network.stride, temperature=0.5, void=True)
    sets = [compiled_set(name) for name in mock_prompt_sets()]
    return write_bundle(network, path, card, sets, with_network=True)
