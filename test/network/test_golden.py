"""The imported head against the reference implementation's recorded outputs, and against heads of other sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_head import PIXEL, PREDICTOR, Sizes, expected_outputs, random_state

from vl4ad_ros.cli.main import main
from vl4ad_ros.network.importing import heads_beside, import_head
from vl4ad_ros.network.verify import OUTPUTS, errors, read_record

OTHER_SIZES = (
    Sizes((8, 12, 20, 28), 32, 32, 4, 1, 40, 2, 48, 7, 24),
    Sizes((24, 8, 16, 12), 96, 96, 6, 3, 64, 5, 80, 9, 33),
    # The query decoder wider than the pixel decoder: input projections.
    Sizes((16, 16, 16, 16), 32, 48, 8, 2, 32, 4, 32, 5, 16),
    # One head, one query, one layer, one number; three channels.
    Sizes((3, 40, 3, 17), 64, 64, 1, 1, 1, 1, 1, 1, 1),
    # More layers than scales, heads whose width is no power of two.
    Sizes((8, 17, 8, 3), 96, 36, 3, 1, 24, 10, 30, 40, 130),
    # Mask features narrower and wider than the queries.
    Sizes((8, 12, 20, 28), 64, 64, 4, 1, 40, 2, 48, 7, 24, mask=48),
    Sizes((8, 12, 20, 28), 32, 48, 4, 1, 40, 2, 48, 7, 24, mask=80),
)


def write_case(
    folder: Path, sizes: Sizes, seed: int = 3, counts: Sequence[int] = (1, 3, 2), image: tuple[int, int] = (96, 64)
) -> tuple[Path, Path]:
    """A random checkpoint with inputs and expected outputs, as files in the golden's layout."""
    generator = torch.Generator().manual_seed(seed)
    state = random_state(sizes, seed)
    features = [
        torch.randn(channels, -(-image[0] // stride), -(-image[1] // stride), generator=generator)
        for channels, stride in zip(sizes.channels, (4, 8, 16, 32), strict=True)
    ]
    text = F.normalize(torch.randn(sum(counts), sizes.clip_dim, generator=generator), dim=-1)
    record = {f"res{index + 2}": feature[None].numpy() for index, feature in enumerate(features)}
    record |= {"text": text.numpy(), "num_templates": np.array(counts)}
    record |= expected_outputs(state, features, text, list(counts), sizes.heads)
    torch.save({"model": state}, folder / "checkpoint.pth")
    np.savez(folder / "io.npz", **record)  # type: ignore[arg-type]
    (folder / "config.json").write_text(json.dumps({"num_heads": sizes.heads}))
    return folder / "checkpoint.pth", folder / "io.npz"


def test_the_golden_holds(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = shared_dir / "golden" / "fcclip_head"
    status = main(["import-fcclip", str(golden / "checkpoint.pth"), "--verify", str(golden / "io.npz")])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "12 queries, 2 + 3 layers of 8 heads" in printed
    for name in OUTPUTS:
        (line,) = (line for line in printed.splitlines() if line.split()[0] == name and "(inference)" not in line)
        assert float(line.split()[1]) < 1e-5


def test_the_plain_reference_agrees_with_the_golden(shared_dir: Path) -> None:
    golden = shared_dir / "golden" / "fcclip_head"
    state = torch.load(golden / "checkpoint.pth", weights_only=True)["model"]
    with np.load(golden / "io.npz") as record:
        features = [torch.from_numpy(record[f"res{index}"][0]) for index in range(2, 6)]
        outputs = expected_outputs(state, features, torch.from_numpy(record["text"]), list(record["num_templates"]), 8)
        for name in OUTPUTS:
            np.testing.assert_allclose(outputs[name], record[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("sizes", OTHER_SIZES, ids=["small", "odd", "projected", "ones", "deep", "narrow", "wide"])
def test_heads_of_other_sizes_hold(tmp_path: Path, sizes: Sizes) -> None:
    checkpoint, io = write_case(tmp_path, sizes)
    head = import_head(checkpoint, heads_beside(io)).head
    config = head.config
    assert (config.feature_channels, config.conv_dim, config.hidden_dim) == (sizes.channels, sizes.dim, sizes.hidden)
    assert config.mask_dim == (sizes.mask or sizes.hidden)
    assert (config.encoder_layers, config.decoder_layers) == (sizes.encoder_layers, sizes.decoder_layers)
    assert (config.encoder_ffn, config.decoder_ffn) == (sizes.encoder_ffn, sizes.decoder_ffn)
    assert (config.num_queries, config.embedding_dim) == (sizes.queries, sizes.clip_dim)
    found = errors(head, read_record(io))
    assert max(found.values()) < 1e-4, found
    # The heads can be told from the checkpoint, too.
    assert import_head(checkpoint).head.config == config


@pytest.mark.parametrize(
    ("counts", "image"), [((1,), (96, 64)), ((42, 1, 7), (100, 132)), ((1,) * 19, (70, 33))], ids=str
)
def test_any_number_of_concepts_and_any_image_size_hold(
    tmp_path: Path, counts: tuple[int, ...], image: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Sides that are no multiples of 32, as features of a padded stride give them."""
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0], counts=counts, image=image)
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "status", "sentence"),
    [
        ('{"seed": 0}', 0, "layers of 4 heads"),
        ('{"num_heads": 4, "seed": 0}', 0, "layers of 4 heads"),
        ('{"num_heads": "four"}', 2, "num_heads must be a whole number >= 1, got 'four'"),
        ("[4]", 2, "expected a JSON object with num_heads, got list"),
        ("{num_heads: 4", 2, "config.json"),
    ],
)
def test_the_config_beside_the_record(
    tmp_path: Path, config: str, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does not state is inferred; what it states wrongly is said."""
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0])
    (tmp_path / "config.json").write_text(config)
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == status
    printed = capsys.readouterr()
    assert sentence in printed.out + printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("num_templates", np.array([1, 3]), "counts 4 concepts in 2 classes, text has 6 rows"),
        ("num_templates", np.array([1, 5, 0]), "whole numbers >= 1, one per class, got [1, 5, 0]"),
        ("num_templates", np.array(6), "whole numbers >= 1, one per class, got 6"),
        ("text", np.ones(6, np.float32), "text must be floats [P, D], got float32 (6,)"),
        ("text", np.ones((6, 24), np.int64), "text must be floats, got int64 (6, 24)"),
        ("pred_masks", np.array(["a"]), "pred_masks must be floats, got <U1 (1,)"),
        ("text", np.ones((6, 25), np.float32), "do not fit the checkpoint's head"),
        ("res3", np.ones((1, 11, 12, 8), np.float32), "do not fit the checkpoint's head"),
        ("res2", np.ones((8, 24, 16), np.float32), "do not fit the checkpoint's head"),
        ("pred_masks", None, "lacks the arrays ['pred_masks']"),
    ],
)
def test_a_record_that_does_not_fit_is_a_sentence(
    tmp_path: Path, name: str, value: np.ndarray | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0])
    with np.load(io) as stream:
        record = dict(stream)
    record.pop(name)
    if value is not None:
        record[name] = value
    np.savez(io, **record)
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda whole: whole[: len(whole) // 2], "cannot be read as an .npz file (File is not a zip file)"),
        (lambda whole: whole.replace(b"\x93NUMPY", b"\x93NIMPY"), "cannot be read as an .npz file (Bad CRC-32"),
        (lambda whole: b"", "cannot be read as an .npz file (No data left in file)"),
        (lambda whole: b"hello", "cannot be read as an .npz file ("),
        (lambda whole: whole[whole.index(b"\x93NUMPY") :], "it is a single array; write named arrays with numpy.savez"),
    ],
    ids=["half", "corrupt", "empty", "text", "npy"],
)
def test_a_damaged_record_is_a_sentence(
    tmp_path: Path, damage: Callable[[bytes], bytes], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0])
    io.write_bytes(damage(io.read_bytes()))
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == 2
    error = capsys.readouterr().err
    assert f"{io}: " in error and sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"void_embedding.weight": None}, "missing: void_embedding.weight (1, 24)"),
        ({PREDICTOR + "logit_scale": None}, "missing: sem_seg_head.predictor.logit_scale ()"),
        ({PREDICTOR + "query_feat.weight": None}, "missing: sem_seg_head.predictor.query_feat.weight (7, 32)"),
        ({PIXEL + "input_proj.3.0.weight": (32, 8, 1, 1)}, "unexpected: sem_seg_head.pixel_decoder.input_proj.3.0"),
        ({PIXEL + "transformer.level_embed": (4, 32)}, "level_embed (4, 32), expected (3, 32)"),
        ({PREDICTOR + "class_embed.layers.2.weight": (25, 32)}, "class_embed.layers.2.weight (25, 32), expected (24"),
    ],
)
def test_a_head_that_is_another_one_is_listed(
    tmp_path: Path,
    change: dict[str, tuple[int, ...] | None],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0])
    state = torch.load(checkpoint, weights_only=True)["model"]
    for name, shape in change.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(shape)
    torch.save({"model": state}, checkpoint)
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_verify_fails_where_an_output_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0])
    with np.load(io) as stream:
        record = dict(stream)
    record["pred_logits"][0, 0, 0] += 0.01
    np.savez(io, **record)
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == 1
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("pred_logits  "))
    assert float(line.split()[1]) == pytest.approx(0.01, abs=1e-4) and "above 0.0001" in line
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io), "--tolerance", "0.1"]) == 0


def test_wrong_attention_heads_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[0])
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 8}))
    assert main(["import-fcclip", str(checkpoint), "--verify", str(io)]) == 2
    assert "attention_weights.weight (48, 32), expected (96, 32)" in capsys.readouterr().err
