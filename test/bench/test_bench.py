"""The benches in a tiny form: that they run, agree with each other where they must, and say what is not here."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mask_bundle import mask_network
from run_cli import Cli

from vl4ad_ros.cli.bench_scoring import compare_scoring, make_form
from vl4ad_ros.network.checkpoint import save_network


def test_the_cheap_and_the_usual_form_agree_where_masks_are_flat() -> None:
    """Upsampling a constant mask changes nothing: all forms must give the same map there."""
    torch.manual_seed(0)
    flat = torch.zeros(1, 6, 8, 16) + torch.randn(1, 6, 1, 1)

    def with_masks(form: str) -> torch.Tensor:
        original = torch.randn
        try:
            torch.randn = lambda *_, **__: flat / 4
            call = make_form(form, queries=6, classes=3, ood=2, height=32, width=64)
        finally:
            torch.randn = original
        result: torch.Tensor = call()
        return result

    usual = with_masks("usual")
    assert usual.max() < 0
    for form in ("classes", "score"):
        ours = with_masks(form)
        assert ours.shape == usual.shape == (32, 64)
        assert torch.allclose(ours, usual, atol=1e-5)


def test_strips_are_the_usual_form() -> None:
    strips, usual, other = (make_form(form, 6, 3, 2, 96, 64)() for form in ("masks", "usual", "score"))
    torch.testing.assert_close(strips, usual, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other, usual, atol=1e-3)


def test_scoring_figures_are_complete() -> None:
    make = partial(make_form, queries=8, classes=3, ood=3, height=64, width=64)
    figures = compare_scoring(make, threads=1, calls=2, seconds=0)
    assert list(figures) == ["classes", "score", "masks", "usual"]
    assert figures["masks"]["calls"] == 2
    for ratio in ("speedup", "cpu_speedup"):
        assert figures["masks"][ratio] > 0
        assert figures["usual"][ratio] == pytest.approx(1)


def test_engine_bench_reports_what_is_not_here(mock_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "engine.json"
    words = ["bench", "engine", "--bundle", str(mock_bundle), "--backend", "onnxruntime", "torch", "--frames", "2"]
    text = cli(*words, "--size", "90x160", "--batch", "2", "--out", out)
    assert "not here: Bundle 'mock' carries no PyTorch network" in text
    saved = json.loads(out.read_text())
    row = saved["figures"]["rows"][0]
    assert row["engine_ms"]["calls"] == 2
    assert row["batch"] == 2
    assert saved["provenance"]["versions"]["onnxruntime"]


@pytest.mark.timeout(900)  # an export and two processes that import torch
def test_gpu_bench_in_a_tiny_form_on_the_cpu(tmp_path: Path, cli: Cli) -> None:
    save_network(mask_network(), tmp_path / "network")
    out = tmp_path / "gpu.json"
    words = ["bench", "gpu", "--network", str(tmp_path / "network"), "--size", "64x96", "--batch", "1", "--frames", "2"]
    words += ["--forms", "torch-eager", "onnxruntime", "tensorrt_rtx", "--precision", "float16", "--device", "cpu"]
    table = cli(*words, "--work", tmp_path / "work", "--out", out)
    rows = {row["form"]: row for row in json.loads(out.read_text())["figures"]["rows"]}
    for form in ("torch-eager", "onnxruntime"):
        assert rows[form]["finite"], rows[form]
        assert rows[form]["latency"]["calls"] == 2
    assert rows["torch-eager"]["mean_score"] == pytest.approx(rows["onnxruntime"]["mean_score"], abs=2e-2)
    assert "| torch-eager | 64x96 | 1 |" in table
    assert "tensorrt_rtx skipped: tensorrt_rtx runs on NVIDIA GPUs only." in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu_is_said_at_once(cli: Cli) -> None:
    assert "No NVIDIA GPU can be used here" in cli.error("bench", "gpu")
    assert "torch-eager" in cli.error("bench", "gpu", "--forms", "abacus")


def test_figures_of_a_null_engine(mock_bundle: Path, cli: Cli) -> None:
    given = ["--bundle", str(mock_bundle), "--width", "96", "--height", "64", "--frames", "8", "--json"]
    result: dict[str, Any] = json.loads(cli("bench", "ros", *given))
    stages = result["stages_ms"]
    assert result["outside_engine_ms_median"] == stages["outside_engine"]["median"] > 0
    assert (result["width"], result["height"], result["frames"], result["backend"]) == (96, 64, 8, "null")
    # Part of each round trip; a frame whose maps came too late for one may be among the former only.
    assert stages["outside_engine"]["median"] < stages["round_trip"]["p95"]
    assert {"wait", "decode", "preprocess", "engine", "postprocess", "publish", "age"} <= set(stages)
    assert result["hardware"]["cpu"]
    assert result["obstacles"]["number"] > 1
    assert 0 < result["obstacles"]["ms"]["median"] < result["obstacles"]["age_ms"]["median"]
