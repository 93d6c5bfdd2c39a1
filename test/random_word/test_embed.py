"""The cache of embeddings: whose they are, and what happens when its files are damaged or cannot be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.embed import cache_folder, embed

TEXTS = ["a cow", "a dog", "a cow"]


class Encoder:
    """Embeddings that depend on a seed; the id does not, like that of a model with a weights file of one's own."""

    id = "open_clip:model/mine"
    dim = 4

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.calls = seed, 0

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.calls += 1
        rows = np.random.default_rng([self.seed, len(texts)]).standard_normal((len(texts), self.dim))
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_another_weights_file_of_the_same_model_gets_its_own_embeddings(tmp_path: Path) -> None:
    rows = []
    for seed in (1, 2, 1):
        weights = tmp_path / "weights.bin"
        weights.write_bytes(b"w" * seed)
        rows.append(embed(TEXTS, Encoder(seed), cache_folder(tmp_path / "cache", weights)))
    assert np.abs(rows[0] - rows[1]).max() > 0.1
    np.testing.assert_array_equal(rows[0], rows[2])
    assert cache_folder(tmp_path, None) == tmp_path
    assert cache_folder(None, tmp_path / "none") is None
    with pytest.raises(Vl4adError, match=r"none\.bin: cannot be read"):
        cache_folder(tmp_path, tmp_path / "none.bin")


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
