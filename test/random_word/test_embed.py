"""The cache of embeddings, where its files are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vl4ad_ros.random_word.embed import embed

TEXTS = ["a cow", "a dog", "a cow"]


class Encoder:
    id = "open_clip:model/mine"
    dim = 4
    calls = 0

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.calls += 1
        rows = np.random.default_rng(len(texts)).standard_normal((len(texts), self.dim))
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("damage", ["empty", "cut off", "text", "archive", "other shape", "no unit vectors"])
def test_a_damaged_file_is_made_anew(damage: str, tmp_path: Path) -> None:
    right = embed(TEXTS, Encoder(), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "archive":
        np.savez(tmp_path / "x.npz", a=right)
        (tmp_path / "x.npz").replace(path)
    elif damage in ("other shape", "no unit vectors"):
        np.save(path, np.zeros((2, 4) if damage == "no unit vectors" else (7, 4), np.float32))
    else:
        path.write_bytes({"empty": b"", "cut off": whole[:-5], "text": b"no array at all"}[damage])
    encoder = Encoder()
    np.testing.assert_array_equal(embed(TEXTS, encoder, tmp_path), right)
    assert encoder.calls == 1
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(embed(TEXTS, encoder, tmp_path), right)
    assert encoder.calls == 1
