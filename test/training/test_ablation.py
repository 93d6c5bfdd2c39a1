from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mock_bundle import ColourEncoder, mock_prompt_sets

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.training.ablation import Row, Step, make_steps, names_only, plain, run_steps, table


def test_names_only_keeps_the_first_concept_of_each_column() -> None:
    prompt_set = PromptSet(name="two", classes={"stop": ["red", "yellow"], "go": ["green", "blue"]}, ood=["grey"])
    reduced = names_only(compile_prompt_set(prompt_set, ColourEncoder()))
    assert reduced.concepts == ("red", "green", "grey")
    assert reduced.concept_column.tolist() == [0, 1, 2]
    assert reduced.num_id == 2
    assert np.array_equal(reduced.embeddings, ColourEncoder().encode(["red", "green", "grey"]))


def test_the_rows_are_in_the_order_of_the_documented_table() -> None:
    detector = Detector.open("vl4ad-small")
    steps = make_steps([detector, detector])
    detector.close()
    text = (Path(__file__).parents[2] / "docs/results.md").read_text()
    documented = text.split("## Ablation")[1].split("|---|\n")[1].split("\n\n")[0]
    # The page says which of its definitions an MSP had when the table was made.
    labels = [re.sub("closed-set | = open MSP", "", line.split("|")[1]).strip() for line in documented.splitlines()]
    assert [step.label for step in steps] == labels
    assert [step.detector for step in steps] == [1, 1] + [0] * (len(steps) - 2)


def test_table_of_a_data_set_whose_answer_is_known(tmp_path: Path, mock_bundle: Path) -> None:
    """Red is a class, blue is none: a red frame with a blue half is found without a fault."""
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48], image[:, 48:] = (0, 0, 255), (255, 0, 0)
    label = np.zeros((64, 96), np.uint8)
    label[:, 48:] = 1
    for index in range(2):
        cv2.imwrite(str(tmp_path / "set/images" / f"{index}.png"), image)
        cv2.imwrite(str(tmp_path / "set/labels" / f"{index}.png"), label)
    detector = Detector.open(mock_bundle)
    assert "traffic" in mock_prompt_sets()
    steps = [Step("VL", 0, detector.prompts("traffic")), Step("+ OOD prompts", 0, detector.prompts("traffic_ood"))]
    reports = list(run_steps([detector], steps, tmp_path / "set", "road_anomaly", tmp_path / "pictures"))
    assert reports[:2] == [(1, 2), (2, 2)]
    rows = reports[2]
    assert isinstance(rows, list)
    assert all(isinstance(row, Row) for row in rows)
    assert rows[1].result.ap == pytest.approx(1.0, abs=0.05)
    lines = table(rows).splitlines()
    assert lines[0] == "| step | road_anomaly: AP / FPR95 / AUROC |"
    assert lines[3].startswith("| + OOD prompts | ")
    described = plain(rows, [detector])
    assert [row["prompt_set"] for row in described["rows"]] == ["traffic", "traffic_ood"]
    assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 2
    (tmp_path / "set/images/1.png").write_bytes(b"no picture")
    with pytest.raises(Vl4adError, match=r"1 of 2 .*cannot be read"):
        list(run_steps([detector], steps, tmp_path / "set", "road_anomaly", None))
    detector.close()
