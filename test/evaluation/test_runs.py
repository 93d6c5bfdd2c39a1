"""Parts, processes, a cluster and an interruption: always the result of one pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vl4ad_ros.evaluation import run as run_module
from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.image_files import LabelMapping
from vl4ad_ros.evaluation.layouts import folder_layout
from vl4ad_ros.evaluation.predictor import DetectorPredictor, DetectorSpec
from vl4ad_ros.evaluation.ray_cluster import on_cluster
from vl4ad_ros.evaluation.result import EvaluationResult, finish
from vl4ad_ros.evaluation.run import EvaluationSettings, Part, evaluate, split
from vl4ad_ros.evaluation.tally import Tally
from vl4ad_ros.io.errors import Vl4adError

SETTINGS = EvaluationSettings(threshold=0.5, track="obstacle")


@pytest.fixture
def work(folder: Path, mock_bundle: Path) -> tuple[DatasetSource, DetectorSpec]:
    source = DatasetSource(folder, folder_layout(LabelMapping(frozenset({1})), "obstacle"))
    return source, DetectorSpec(str(mock_bundle), prompt_set="traffic_ood", threads=1)


def result_of(tally: Tally) -> EvaluationResult:
    return finish(tally, {"source": {}, "detector": {}, "settings": {}}, is_drive=False)


def content(result: EvaluationResult) -> dict[str, Any]:
    """Everything but the time that it took."""
    records = [{key: value for key, value in record.items() if key != "latency_ms"} for record in result.records]
    summary = {key: value for key, value in result.summary.items() if key != "latency_ms"}
    pictures = {
        kind: [(rank, index) for rank, index, _ in kept] for kind, kept in sorted(result.gallery.pictures.items())
    }
    return {
        "summary": summary,
        "records": records,
        "histograms": result.histograms.tolist(),
        "calibration": result.calibration.tolist(),
        "pictures": pictures,
        "thumbnails": sorted(result.gallery.thumbnails),
        "curve": [result.curve.tp.tolist(), result.curve.fp.tolist(), result.curve.thresholds.tolist()],
    }


def test_parts_and_processes_equal_one_pass(work: tuple[DatasetSource, DetectorSpec], tmp_path: Path) -> None:
    source, spec = work
    whole = evaluate(split(source, spec, SETTINGS, 1), tmp_path / "one")
    parts = split(source, spec, SETTINGS, 4)
    assert [list(part.indices) for part in parts] == [[0, 1], [2, 3, 4], [5, 6, 7], [8, 9]]
    spread = evaluate(parts, tmp_path / "four", jobs=2)
    assert content(result_of(whole)) == content(result_of(spread))
    assert not (tmp_path / "four").exists()


def test_an_interrupted_run_goes_on_where_it_stopped(
    work: tuple[DatasetSource, DetectorSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, spec = work
    parts = split(source, spec, SETTINGS, 3)
    done: list[int] = []
    broken = True
    original = run_module.evaluate_part

    def stumbling(part: Part, progress: run_module.Progress | None = None) -> Tally:
        if broken and 9 in part.indices:
            raise Vl4adError("the disk is full")
        done.extend(part.indices)
        return original(part, progress)

    monkeypatch.setattr(run_module, "evaluate_part", stumbling)
    with pytest.raises(Vl4adError, match="the disk is full"):
        evaluate(parts, tmp_path / "work")
    broken = False
    resumed = evaluate(parts, tmp_path / "work")
    # No part was done twice.
    assert done == list(range(10))
    assert content(result_of(resumed)) == content(result_of(evaluate(split(source, spec, SETTINGS, 1), tmp_path / "w")))


def test_a_changed_setting_does_not_reuse_finished_parts(work: tuple[DatasetSource, DetectorSpec]) -> None:
    source, spec = work
    (part,) = split(source, spec, SETTINGS, 1)
    (other,) = split(source, spec, EvaluationSettings(threshold=0.6, track="obstacle"), 1)
    (again,) = split(source, spec, SETTINGS, 1)
    assert run_module.fingerprint(part) == run_module.fingerprint(again) != run_module.fingerprint(other)


def test_a_ray_cluster_with_two_workers_equals_one_pass(
    work: tuple[DatasetSource, DetectorSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed (extra: ray)")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    source, spec = work
    small = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        cluster.add_node(**small)
        cluster.wait_for_nodes()
        spread = evaluate(split(source, spec, SETTINGS, 2), tmp_path / "ray", ray_address=cluster.address)
        (part,) = split(source, spec, SETTINGS, 1)
        broken = replace(part, predictor=replace(spec, bundle="gone"))
        with pytest.raises(Vl4adError, match="There is no model bundle 'gone'"):
            dict(on_cluster({tmp_path / "part": broken}, cluster.address))
    finally:
        cluster.shutdown()
    whole = evaluate(split(source, spec, SETTINGS, 1), tmp_path / "one")
    assert content(result_of(whole)) == content(result_of(spread))
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra: ray)")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with pytest.raises(Vl4adError, match=r"The Ray cluster at 'auto' cannot be reached"):
        dict(on_cluster({}, "auto"))


def test_parts_beside_others_take_one_thread(
    work: tuple[DatasetSource, DetectorSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, spec = work
    threads: list[int] = []
    opened = DetectorSpec.open

    def noting(self: DetectorSpec) -> DetectorPredictor:
        threads.append(self.threads)
        return opened(self)

    monkeypatch.setattr(DetectorSpec, "open", noting)
    for given in (0, 2):
        (part,) = split(source, replace(spec, threads=given), EvaluationSettings(0.5, limit=1), 1)
        run_module.evaluate_on_one_thread(part)
    assert threads == [1, 2]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "part.npz").write_bytes(b"nothing")
    with pytest.raises(Vl4adError, match=r"part\.npz: not a stored part"):
        Tally.load(tmp_path / "part.npz")


def test_strides_and_limits() -> None:
    assert EvaluationSettings(0.5, stride=3, limit=2).indices(10) == [0, 3]
    with pytest.raises(Vl4adError, match="at least 1"):
        EvaluationSettings(0.5, stride=0).indices(10)
