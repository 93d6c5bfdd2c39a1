"""`vl4ad prompts compile` killed at any moment leaves a bundle that loads, and that the next call completes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vl4ad_ros.cli.main import main
from vl4ad_ros.runtime.bundle import ModelBundle

YAML = "name: lights\ndescription: Lights\nclasses: {stop: [red], go: [green]}\nood: [OOD]\n"
# Ends the process, with no goodbye, before or behind the N-th file that takes its name.
KILLED = """
import itertools, os, pathlib, sys
from vl4ad_ros.cli.main import main
number, moment, number_of, replace = int(sys.argv[1]), sys.argv[2], itertools.count(1), pathlib.Path.replace
def replaced(self, target):
    due = next(number_of) == number
    if due and moment == "before": os._exit(9)
    result = replace(self, target)
    if due: os._exit(9)
    return result
pathlib.Path.replace = replaced
sys.exit(main(sys.argv[3:]))
"""


def compiling(folder: Path, bundle: Path, ood: str) -> list[str]:
    (folder / "lights.yaml").write_text(YAML.replace("OOD", ood))
    np.save(folder / "rows.npy", np.eye(3, dtype=np.float32) + (ood == "white"))
    return ["prompts", "compile", f"{folder}/lights.yaml", f"--bundle={bundle}", f"--from-npy={folder}/rows.npy"]


@pytest.mark.parametrize(
    ("number", "moment", "status"), [(1, "before", 9), (1, "after", 9), (2, "after", 9), (3, "after", 9), (4, "", 0)]
)
def test_any_moment_is_safe(number: int, moment: str, status: int, mock_bundle: Path, tmp_path: Path) -> None:
    assert main(compiling(tmp_path, mock_bundle, "blue")) == 0
    again = [*compiling(tmp_path, mock_bundle, "white"), "--force"]
    command = [sys.executable, "-c", KILLED, str(number), moment, *again]
    assert subprocess.run(command, capture_output=True, check=False).returncode == status
    assert ModelBundle.load(mock_bundle).load_prompt_set("lights").columns[-1] in ("blue", "white")
    if ModelBundle.load(mock_bundle).load_prompt_set("lights").columns[-1] == "white":
        again.remove("--force")
    assert main(again) == 0
    bundle = ModelBundle.load(mock_bundle)
    assert bundle.load_prompt_set("lights").columns[-1] == "white"
    assert "prompts/lights.safetensors" in bundle.card.sha256


@pytest.mark.parametrize("more", [[], ["--force"]])
def test_a_card_with_another_hash_for_the_set_is_repaired(more: list[str], mock_bundle: Path, tmp_path: Path) -> None:
    compiled = compiling(tmp_path, mock_bundle, "blue")
    assert main(compiled) == 0
    card = json.loads((mock_bundle / "card.json").read_text())
    card["sha256"]["prompts/lights.safetensors"] = "0" * 64
    (mock_bundle / "card.json").write_text(json.dumps(card))
    assert main(["prompts", "list", "--bundle", str(mock_bundle)]) == 0
    assert main([*compiled, *more]) == 0
    assert ModelBundle.load(mock_bundle).card.sha256["prompts/lights.safetensors"] != "0" * 64


def test_damage_of_another_file_is_not_made_good(mock_bundle: Path, tmp_path: Path) -> None:
    (mock_bundle / "model.onnx").write_bytes((mock_bundle / "model.onnx").read_bytes() + b"\0")
    assert main([*compiling(tmp_path, mock_bundle, "blue"), "--force"]) == 2
