"""A linear toy text space: a text's embedding is the normalised sum of its words' vectors, one random vector a word.

State words have a known part along axis 0 (anomalous +, normal -), every other word has none: the right answer for any
prompt is the sign of its embedding along axis 0.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.random_word.settings import PromptFamily

NORMAL_WORDS = ("good", "fine", "intact", "sound", "whole", "clean", "neat", "right")
ANOMALOUS_WORDS = ("bad", "poor", "broken", "rotten", "torn", "dirty", "bent", "wrong")


class ToyEncoder:
    id = "toy:linear"
    dim = 48

    def vector(self, word: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
        vector = np.random.default_rng(seed).standard_normal(self.dim).astype(np.float32) / self.dim**0.5
        vector[0] = 2.0 * ((word in ANOMALOUS_WORDS) - (word in NORMAL_WORDS))
        return np.asarray(vector, dtype=np.float32)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        rows = np.stack([sum((self.vector(word) for word in text.split()), np.zeros(self.dim)) for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def toy_family() -> PromptFamily:
    return PromptFamily(
        name="toy",
        subject="thing",
        templates=["a photo of {}", "{} seen here", "this is {}", "look at {}"],
        normal=[f"{word} {{}}" for word in NORMAL_WORDS],
        anomalous=[f"{word} {{}}" for word in ANOMALOUS_WORDS],
    )
