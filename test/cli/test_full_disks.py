"""A full disk: each writer says so in one sentence, leaves nothing that looks whole, and begins again afterwards."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml as yaml_library
from full_disk import full_disk
from mask_bundle import mask_network
from mock_bundle import ColourEncoder, mock_prompt_sets
from tiny_run import plain_config, write_data
from toy_text import ToyEncoder, toy_family

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_network, save_network
from vl4ad_ros.prompts import encoders
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.training import command as training
from vl4ad_ros.training import export

SIZE = "--size 96x64"
PARAMETERS = "/**:\n  ros__parameters:\n    threshold: 0.5\n"
LIGHTS = "name: lights\ndescription: Lights\nclasses: {stop: [red], go: [green]}\nood: [blue]\n"
SET = "--bundle {bundle} --prompt-set traffic_ood"
EXPORT = "--size 64x96 --concepts 16 --columns 8 --concepts-per-class 4 --prompts {made}/traffic.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    made = tmp_path_factory.mktemp("made")
    assert main(f"sample-drive --out {made}/drive --frames 3 --jobs 1 {SIZE}".split()) == 0
    image, label = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
    image[..., 2], image[:, 48:], label[:, 48:] = 255, (255, 0, 0), 1
    for folder, pixels in (("images", image), ("labels", label)):
        (made / "set" / folder).mkdir(parents=True)
        cv2.imwrite(str(made / "set" / folder / "a.png"), pixels)
    (made / "lights.yaml").write_text(LIGHTS)
    np.save(made / "rows.npy", np.eye(3, dtype=np.float32))
    save_network(mask_network(), made / "network")
    compile_prompt_set(mock_prompt_sets()["traffic"], ColourEncoder()).save(made / "traffic.safetensors")
    (made / "family.yaml").write_text(yaml_library.safe_dump(toy_family().model_dump(mode="json")))
    toy = {"family": str(made / "family.yaml"), "text_encoder": ToyEncoder.id, "samples": 50, "batch": 32}
    toy |= {"validation_samples": 10, "epochs": 2, "hidden": 8, "rate": 5e-3}
    (made / "toy.yaml").write_text(yaml_library.safe_dump(toy))
    run = plain_config(write_data(made / "data"), made / "run", objects=None)
    run["optimizer"] = {"steps": 2, "warmup": 1, "cooldown": 1}
    (made / "run.yaml").write_text(yaml_library.safe_dump(run))
    return made


@pytest.fixture(autouse=True)
def toy_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (encoders, training, export):
        monkeypatch.setattr(module, "create_encoder", lambda *_: ToyEncoder())


@pytest.mark.parametrize(
    ("command", "whole", "most"),
    [
        ("detect {made}/set/images --out {out} --bundle {bundle}", "result.json", 0),
        ("detect {made}/set/images --out {out} --bundle {bundle}", "result.json", 1000),
        ("make-bag {made}/set/images --out {out}/bag", "bag", 0),
        ("make-bag {made}/set/images --out {out}/bag --jpeg", "bag", 100),
        ("sample-drive --out {out}/bag --frames 2 --jobs 1 " + SIZE, "bag", 0),
        ("sample-drive --out {out}/bag --frames 2 --jobs 1 " + SIZE, "bag", 4000),
        ("evaluate dataset folder {made}/set --out {out} " + SET, "result.json", 0),
        ("evaluate dataset folder {made}/set --out {out} " + SET, "result.json", 1000),
        ("evaluate bag {made}/drive --label-topic /camera/label --out {out} " + SET, "result.json", 1000),
        ("evaluate bag {made}/drive --out {out} --mcap {out}/mcap " + SET, "mcap", 100_000),
        ("evaluate bag {made}/drive --out {out} --pictures {out}/pictures " + SET, "pictures", 0),
        ("evaluate calibrate {made}/drive --image-topic /camera/image_raw --per-frame 0.5 --params {out}/p.yaml "
         "--bundle {bundle}", "p.yaml", 0),
        ("prompts compile {made}/lights.yaml --encoder mock:rgb --from-npy {made}/rows.npy --out {out}/p.safetensors",
         "p.safetensors", 0),
        ("prompts compile {made}/lights.yaml --bundle {bundle} --from-npy {made}/rows.npy",
         "../mock/prompts/lights.safetensors", 0),
        ("export onnx {made}/network --out {out}/bundle " + EXPORT, "bundle/card.json", 0),
        ("export onnx {made}/network --out {out}/bundle " + EXPORT, "bundle/card.json", 100_000),
        ("export onnx {made}/network --out {out}/bundle --with-network " + EXPORT, "bundle/card.json", 0),
        ("random-word train {made}/toy.yaml --output {out}/n.safetensors", "n.safetensors", 0),
        ("ablate --bundle vl4ad-small --road-anomaly {made}/set --out {out} --no-pictures", "result.json", 0),
        ("ablate --bundle vl4ad-small --road-anomaly {made}/set --out {out}", "result.json", 0),
        ("bench engine --bundle {bundle} --frames 1 --size 64x96 --out {out}/b.json", "b.json", 0),
        ("train {made}/run.yaml --output {out} --no-export --device cpu", "last.pt", 0),
        ("train {made}/run.yaml --output {out} --no-export --device cpu", "last.pt", 5000),
        ("train {made}/run.yaml --output {out} --device cpu", "bundle/card.json", 60_000),
    ],
)  # fmt: skip
def test_a_full_disk_is_one_sentence(
    command: str, whole: str, most: int, made: Path, mock_bundle: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    if "--params" in command:
        (out / "p.yaml").write_text(PARAMETERS)
    words = command.format(made=made, out=out, bundle=mock_bundle).split()
    before = {path: path.read_bytes() for path in mock_bundle.rglob("*") if path.is_file()}
    capsys.readouterr()
    with full_disk(most):
        assert main(words) == 2
    said = capsys.readouterr().err
    sentence = said.split("vl4ad: ")[-1].splitlines()[0]  # behind a progress bar that was not finished
    assert any(word in sentence for word in ("cannot be written", "cannot be finished", "File too large"))
    assert said.count("vl4ad: ") == 1
    assert "Traceback" not in said
    if "--params" in command:
        assert (out / "p.yaml").read_text() == PARAMETERS
        (out / "p.yaml").unlink()
    assert not (out / whole).exists() or not any((out / whole).iterdir())
    assert not list(tmp_path.rglob("*.part"))
    assert all(path.read_bytes() == content for path, content in before.items())
    assert main(words) == 0
    assert (out / whole).exists()


def test_an_import_is_not_whole_before_all_is_written(made: Path, tmp_path: Path) -> None:
    with full_disk(50_000), pytest.raises(Vl4adError, match="cannot be written"):
        save_network(mask_network(), tmp_path)
    with pytest.raises(Vl4adError):
        load_network(tmp_path)
