"""The benches in a tiny form: that they run, agree with each other where they must, and say what is not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mask_bundle import mask_network

from vl4ad_ros.cli.bench import measure
from vl4ad_ros.cli.bench_gpu import gpu_table
from vl4ad_ros.cli.bench_scoring import ScoringCase, compare_scoring, make_form
from vl4ad_ros.cli.main import USAGE_ERROR, main
from vl4ad_ros.network.checkpoint import save_network


def test_timing_counts_calls() -> None:
    calls: list[int] = []
    timing = measure(lambda: calls.append(1), calls=7, warm_up=2)
    assert len(calls) == 9
    assert timing.calls == 7
    assert measure(lambda: None, calls=1, seconds=0.5).calls > 1
    assert 0 <= timing.median_ms <= timing.p95_ms <= timing.p99_ms


def test_the_cheap_and_the_usual_form_agree_where_masks_are_flat() -> None:
    """Upsampling a constant mask changes nothing: all forms must give the same map there."""
    case = ScoringCase(queries=6, columns=5, num_id=3, height=32, width=64)
    torch.manual_seed(0)
    flat = torch.zeros(1, 6, 8, 16) + torch.randn(1, 6, 1, 1)

    def with_masks(form: str) -> torch.Tensor:
        original = torch.randn
        try:
            torch.randn = lambda *_, **__: flat / 4
            call = make_form(case, form)
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
    case = ScoringCase(queries=6, columns=5, num_id=3, height=96, width=64)
    strips, usual, other = (make_form(case, form)() for form in ("masks", "usual", "score"))
    torch.testing.assert_close(strips, usual, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other, usual, atol=1e-3)


def test_scoring_figures_are_complete() -> None:
    figures = compare_scoring(
        ScoringCase(queries=8, columns=6, num_id=3, height=64, width=64, threads=1, calls=2, seconds=0)
    )
    assert list(figures) == ["classes", "score", "masks", "usual"]
    assert figures["masks"]["calls"] == 2
    for ratio in ("speedup", "cpu_speedup"):
        assert figures["masks"][ratio] > 0
        assert figures["usual"][ratio] == pytest.approx(1)


def test_engine_bench_reports_what_is_not_here(
    mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine.json"
    words = ["bench", "engine", "--bundle", str(mock_bundle), "--backend", "onnxruntime", "torch", "--frames", "2"]
    assert main([*words, "--size", "90x160", "--batch", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "not here: Bundle 'mock' carries no PyTorch network" in text
    saved = json.loads(out.read_text())
    row = saved["figures"]["rows"][0]
    assert row["engine_ms"]["calls"] == 2
    assert row["batch"] == 2
    assert saved["provenance"]["versions"]["onnxruntime"]


@pytest.mark.timeout(900)  # an export and two processes that import torch
def test_gpu_bench_in_a_tiny_form_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_network(mask_network(), tmp_path / "network")
    out = tmp_path / "gpu.json"
    words = ["bench", "gpu", "--network", str(tmp_path / "network"), "--size", "64x96", "--batch", "1", "--frames", "2"]
    words += ["--forms", "torch-eager", "onnxruntime", "tensorrt_rtx", "--precision", "float16", "--device", "cpu"]
    assert main([*words, "--work", str(tmp_path / "work"), "--out", str(out)]) == 0
    table = capsys.readouterr().out
    rows = {row["form"]: row for row in json.loads(out.read_text())["figures"]["rows"]}
    for form in ("torch-eager", "onnxruntime"):
        assert rows[form]["finite"], rows[form]
        assert rows[form]["latency"]["calls"] == 2
    assert rows["torch-eager"]["mean_score"] == pytest.approx(rows["onnxruntime"]["mean_score"], abs=2e-2)
    assert "| torch-eager | 64x96 | 1 |" in table
    assert "tensorrt_rtx skipped: tensorrt_rtx runs on NVIDIA GPUs only." in table


def test_table_gives_ratios_within_one_run() -> None:
    def row(form: str, batch: int, median: float) -> dict[str, object]:
        latency = {"median_ms": median, "p95_ms": median, "p99_ms": median, "cpu_ms": 1.0, "calls": 3}
        place = {"form": form, "size": [512, 1024], "batch": batch, "precision": "float16"}
        return {**place, "latency": latency, "frames_per_s": 1.0, "gpu_mib": 10, "first_frame_s": 1.0}

    failed = {"form": "tensorrt", "size": [512, 1024], "batch": 1, "precision": "float16", "failed": "out of memory"}
    lines = gpu_table([row("torch-eager", 1, 30.0), row("onnxruntime", 1, 10.0), row("onnxruntime", 4, 9.0), failed])
    assert "| onnxruntime | 512x1024 | 1 | 10.00 | 10.00 | 10.00 | 1.0 | 3.00 | 10 | 1.0 |" in lines
    assert "| onnxruntime | 512x1024 | 4 | 9.00 | 9.00 | 9.00 | 1.0 | - | 10 | 1.0 |" in lines
    assert "tensorrt failed: out of memory" in lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu"]) == USAGE_ERROR
    assert "No NVIDIA GPU can be used here" in capsys.readouterr().err
    assert main(["bench", "gpu", "--forms", "abacus"]) == USAGE_ERROR
    assert "torch-eager" in capsys.readouterr().err
