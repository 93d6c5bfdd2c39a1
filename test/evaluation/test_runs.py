"""Several processes and a cluster: always the result of one pass."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.layouts import folder_layout
from vl4ad_ros.evaluation.measure import Measurements
from vl4ad_ros.evaluation.predictor import DetectorSpec
from vl4ad_ros.evaluation.result import EvaluationResult, summarise_run
from vl4ad_ros.evaluation.run import EvaluationSettings, evaluate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import LabelMapping

SETTINGS = EvaluationSettings(threshold=0.5, track="obstacle", region_overlap=True)


@pytest.fixture
def work(folder: Path, mock_bundle: Path) -> tuple[DatasetSource, DetectorSpec]:
    source = DatasetSource(folder, folder_layout(LabelMapping(frozenset({1})), "obstacle"))
    return source, DetectorSpec(str(mock_bundle), prompt_set="traffic_ood", threads=1)


def result_of(found: Measurements) -> EvaluationResult:
    return summarise_run(found, {"source": {}, "detector": {}, "settings": {}}, is_drive=False)


def content(result: EvaluationResult) -> dict[str, Any]:
    """Everything but the time that it took."""
    records = [{key: value for key, value in record.items() if key != "latency_ms"} for record in result.records]
    summary = {key: value for key, value in result.summary.items() if key != "latency_ms"}
    summary["pro"] = round(summary["pro"], 12)  # A sum of fractions, whose order is that of the parts.
    return {
        "summary": summary,
        "records": records,
        "histograms": result.histograms.tolist(),
        "calibration": result.calibration.tolist(),
        "curve": [result.curve.tp.tolist(), result.curve.fp.tolist(), result.curve.thresholds.tolist()],
    }


def test_processes_equal_one_pass(work: tuple[DatasetSource, DetectorSpec]) -> None:
    source, spec = work
    seen: list[int] = []
    spread = evaluate(source, spec, SETTINGS, jobs=2, progress=seen.append)
    assert content(result_of(evaluate(source, spec, SETTINGS))) == content(result_of(spread))
    assert sum(seen) == len(source)


def test_what_a_process_raises_reaches_the_caller(work: tuple[DatasetSource, DetectorSpec]) -> None:
    source, spec = work
    with pytest.raises(Vl4adError, match="There is no model bundle 'gone'"):
        evaluate(source, replace(spec, bundle="gone"), SETTINGS, jobs=2)


def test_a_process_that_was_killed_is_one_sentence(work: tuple[DatasetSource, DetectorSpec]) -> None:
    class Dying:
        def open(self) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

    source, _ = work
    with pytest.raises(Vl4adError, match="fewer --jobs"):
        evaluate(source, Dying(), SETTINGS, jobs=2)


def test_a_ray_cluster_with_two_workers_equals_one_pass(
    work: tuple[DatasetSource, DetectorSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "180")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="ray is not installed (extra: ray)")
    from ray.cluster_utils import Cluster

    source, spec = work
    small = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        cluster.add_node(**small)
        cluster.wait_for_nodes(timeout=180)
        spread = evaluate(source, spec, SETTINGS, ray_address=cluster.address)
        with pytest.raises(Vl4adError, match="There is no model bundle 'gone'"):
            evaluate(source, replace(spec, bundle="gone"), SETTINGS, ray_address=cluster.address)
    finally:
        cluster.shutdown()
    assert content(result_of(evaluate(source, spec, SETTINGS))) == content(result_of(spread))
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_named(
    work: tuple[DatasetSource, DetectorSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra: ray)")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    source, spec = work
    # Not "auto", which finds whatever cluster runs on this machine.
    with pytest.raises(Vl4adError, match=r"Ray cluster at 'nowhere'"):
        evaluate(source, spec, SETTINGS, ray_address="nowhere")


def test_strides_and_limits() -> None:
    assert EvaluationSettings(0.5, stride=3, limit=2).indices(10) == [0, 3]
    with pytest.raises(Vl4adError, match="at least 1"):
        EvaluationSettings(0.5, stride=0).indices(10)
