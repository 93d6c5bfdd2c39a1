"""The imported head against the reference implementation's recorded outputs, and against heads of other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_head import PIXEL, PREDICTOR, expected_outputs, random_state

from vl4ad_ros.cli.main import main
from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.importing import import_head
from vl4ad_ros.network.verify import OUTPUTS, errors, read_record


def sizes(
    channels: tuple[int, int, int, int], widths: tuple[int, int, int], heads: int, layers: tuple[int, int], **more: int
) -> HeadConfig:
    """A head of these widths (pixel decoder, query decoder, mask features) and layers (encoder, decoder)."""
    names = ("conv_dim", "hidden_dim", "mask_dim", "encoder_layers", "decoder_layers")
    values = dict(zip(names, (*widths, *layers), strict=True))
    values |= {"encoder_ffn": 40, "decoder_ffn": 48, "num_queries": 7, "embedding_dim": 24, **more}
    return HeadConfig(
        feature_channels=channels,
        num_heads=heads,
        input_projection=widths[0] != widths[1],
        **values,  # type: ignore[arg-type]
    )


SMALL = sizes((8, 12, 20, 28), (32, 32, 32), 4, (1, 2))
OTHER_SIZES = {
    "odd": sizes((24, 8, 16, 12), (96, 96, 96), 6, (3, 5), num_queries=9),
    "projected, wide masks": sizes((16, 16, 16, 16), (32, 48, 80), 8, (2, 4)),
    "ones": sizes(
        (3, 40, 3, 17), (64, 64, 64), 1, (1, 1), encoder_ffn=1, decoder_ffn=1, num_queries=1, embedding_dim=1
    ),
    "deep, narrow masks": sizes((8, 17, 8, 3), (96, 36, 24), 3, (1, 10), num_queries=40),
}


def write_case(
    folder: Path, config: HeadConfig, counts: Sequence[int] = (1, 3, 2), image: tuple[int, int] = (96, 64)
) -> tuple[Path, Path]:
    """A random checkpoint with inputs and expected outputs, as files in the golden's layout."""
    generator = torch.Generator().manual_seed(3)
    state = random_state(config, 3)
    features = [
        torch.randn(channels, -(-image[0] // stride), -(-image[1] // stride), generator=generator)
        for channels, stride in zip(config.feature_channels, (4, 8, 16, 32), strict=True)
    ]
    text = F.normalize(torch.randn(sum(counts), config.embedding_dim, generator=generator), dim=-1)
    record = {f"res{index + 2}": feature[None].numpy() for index, feature in enumerate(features)}
    record |= {"text": text.numpy(), "num_templates": np.array(counts)}
    record |= expected_outputs(state, features, text, list(counts), config.num_heads)
    torch.save({"model": state}, folder / "checkpoint.pth")
    np.savez(folder / "io.npz", **record)  # type: ignore[arg-type]
    return folder / "checkpoint.pth", folder / "io.npz"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_case(tmp_path_factory.mktemp("case"), SMALL)


def test_the_golden_holds(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = shared_dir / "golden" / "fcclip_head"
    status = main(["import-fcclip", str(golden / "checkpoint.pth"), "--verify", str(golden / "io.npz")])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "12 queries, 2 + 3 layers of 8 heads" in printed
    found = dict(line.split()[:2] for line in printed.splitlines() if line.split()[0] in OUTPUTS)
    assert set(found) == set(OUTPUTS)
    assert all(float(error) < 1e-5 for error in found.values())


def test_the_plain_reference_agrees_with_the_golden(shared_dir: Path) -> None:
    golden = shared_dir / "golden" / "fcclip_head"
    state = torch.load(golden / "checkpoint.pth", weights_only=True)["model"]
    with np.load(golden / "io.npz") as record:
        features = [torch.from_numpy(record[f"res{index}"][0]) for index in range(2, 6)]
        outputs = expected_outputs(state, features, torch.from_numpy(record["text"]), list(record["num_templates"]), 8)
        for name in OUTPUTS:
            np.testing.assert_allclose(outputs[name], record[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_heads_of_other_sizes_hold(tmp_path: Path, name: str) -> None:
    """Every size, the attention heads among them, is read off the checkpoint."""
    checkpoint, io = write_case(tmp_path, OTHER_SIZES[name])
    head = import_head(checkpoint).head
    assert head.config == OTHER_SIZES[name]
    found = errors(head, read_record(io))
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize(("counts", "image"), [((42, 1, 7), (100, 132)), ((1,) * 19, (70, 33))], ids=str)
def test_any_number_of_concepts_and_any_image_size_hold(
    tmp_path: Path, counts: tuple[int, ...], image: tuple[int, int]
) -> None:
    """Sides that are no multiples of 32, as features of a padded stride give them."""
    checkpoint, io = write_case(tmp_path, SMALL, counts, image)
    assert max(errors(import_head(checkpoint).head, read_record(io)).values()) < 1e-4


def verify(checkpoint: Path, io: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit status of the command, and all that it printed."""
    status = main(["import-fcclip", str(checkpoint), "--verify", str(io), *options])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return status, printed.out + printed.err


@pytest.mark.parametrize(
    ("config", "status", "sentence"),
    [
        ('{"seed": 0}', 0, "layers of 4 heads"),
        ('{"num_heads": 4, "seed": 0}', 0, "layers of 4 heads"),
        ('{"num_heads": 8}', 2, "attention_weights.weight (48, 32), expected (96, 32)"),
        ('{"num_heads": "four"}', 2, "got 'four'"),
        ("[4]", 2, "got list"),
        ("{num_heads: 4", 2, "config.json"),
    ],
)
def test_the_config_beside_the_record(
    case: tuple[Path, Path], config: str, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does not state is inferred; a wrong statement is refused."""
    (case[1].parent / "config.json").write_text(config)
    try:
        found, printed = verify(*case, capsys)
    finally:
        (case[1].parent / "config.json").unlink()
    assert found == status
    assert sentence in printed


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("num_templates", np.array([1, 3]), "num_templates"),
        ("num_templates", np.array([1, 5, 0]), "num_templates"),
        ("num_templates", np.array(6), "num_templates"),
        ("text", np.ones(6, np.float32), "text [P, D]"),
        ("text", np.ones((6, 24), np.int64), "text must be floating, got int64"),
        ("pred_masks", np.array(["a"]), "pred_masks must be floating"),
        ("text", np.ones((6, 25), np.float32), "do not fit the checkpoint's head"),
        ("res2", np.ones((8, 24, 16), np.float32), "do not fit the checkpoint's head"),
        ("pred_masks", None, "lacks the arrays ['pred_masks']"),
    ],
)
def test_a_record_that_does_not_fit_is_a_sentence(
    case: tuple[Path, Path],
    tmp_path: Path,
    name: str,
    value: np.ndarray | None,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with np.load(case[1]) as stream:
        record = dict(stream)
    record.pop(name)
    if value is not None:
        record[name] = value
    np.savez(tmp_path / "io.npz", **record)
    status, printed = verify(case[0], tmp_path / "io.npz", capsys)
    assert status == 2
    assert sentence in printed


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("void_embedding.weight", None, "missing, or of another shape: void_embedding.weight"),
        (
            PREDICTOR + "query_feat.weight",
            (7,),
            "missing, or of another shape: sem_seg_head.predictor.query_feat.weight",
        ),
        (PREDICTOR + "logit_scale", None, "missing: sem_seg_head.predictor.logit_scale ()"),
        (PIXEL + "input_proj.3.0.weight", (32, 8, 1, 1), "unexpected: sem_seg_head.pixel_decoder.input_proj.3.0"),
        (PIXEL + "transformer.level_embed", (4, 32), "level_embed (4, 32), expected (3, 32)"),
        (PREDICTOR + "class_embed.layers.2.weight", (25, 32), "class_embed.layers.2.weight (25, 32), expected (24"),
        (PIXEL + "mask_features.weight", (48, 48, 1, 1), "sizes are impossible: conv_dim"),
    ],
)
def test_a_head_that_is_another_one_is_refused(
    case: tuple[Path, Path],
    tmp_path: Path,
    name: str,
    shape: tuple[int, ...] | None,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = torch.load(case[0], weights_only=True)["model"]
    state.pop(name, None)
    if shape is not None:
        state[name] = torch.zeros(shape)
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    status, printed = verify(tmp_path / "checkpoint.pth", case[1], capsys)
    assert status == 2
    assert sentence in printed


def test_verify_fails_where_an_output_differs(
    case: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(case[1]) as stream:
        record = dict(stream)
    record["pred_logits"][0, 0, 0] += 0.01
    np.savez(tmp_path / "io.npz", **record)
    status, printed = verify(case[0], tmp_path / "io.npz", capsys)
    assert status == 1
    (line,) = (line for line in printed.splitlines() if line.startswith("pred_logits "))
    assert float(line.split()[1]) == pytest.approx(0.01, abs=1e-4) and "above 0.0001" in line
    assert verify(case[0], tmp_path / "io.npz", capsys, "--tolerance", "0.1")[0] == 0
