"""The second method through the live node: `method` switched by parameter, values from the known answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mock_bundle import ColourEncoder, red_uncertainty
from ros_harness import (
    DETECTOR,
    REMAP,
    Client,
    diagnostic_values,
    image_message,
    map_pixels,
    parameters,
    plain,
    running,
)

from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.random_word_files import install
from vl4ad_ros.runtime.random_word_network import load_network, untrained_network


def test_method_and_network_are_switched_live(client: Client, both_bundle: Path, tmp_path: Path) -> None:
    bundle = ModelBundle.load(both_bundle)
    for seed, name in enumerate(("default", "tunnels")):
        bundle = install(bundle, untrained_network(ColourEncoder.dim, ColourEncoder.id, seed), name)
    mine = tmp_path / "mine.safetensors"
    untrained_network(ColourEncoder.dim, ColourEncoder.id, 2).save(mine)
    files = {name: bundle.path / "random_word" / f"{name}.safetensors" for name in ("default", "tunnels")}
    files["mine"] = mine

    def p(name: str) -> float:
        return float(load_network(files[name]).probability(np.array([1, 0, 0], np.float32)))

    values = parameters(bundle=str(bundle.path), method="random_word", random_word="tunnels")
    with running(DETECTOR, tmp_path / "detector.log", *REMAP, *values) as node:
        maps, _ = client.hear_results()
        published = client.hear_prompt_set()
        diagnostics = client.hear_diagnostics()
        client.wait_connected()

        def uncertainty(second: int) -> float:
            image = image_message(plain((255, 0, 0)), stamp=(second, 0))
            return float(map_pixels(client.send_until_heard(image, maps)).mean())

        def check(second: int, name: str | None) -> None:
            assert uncertainty(second) == pytest.approx(red_uncertainty() if name is None else p(name), abs=1e-4)
            in_force: dict[str, str] | None = None
            if name is not None:
                path = files[name]
                in_force = {"name": name, "version": load_network(path).version, "sha256": sha256_file(path)}

            def is_published() -> Any:
                content = json.loads(published[-1].data)
                # The first frame with it: this one, or one that the last was sent again with.
                since = content["since"].get("", {}).get("sec")
                return content["random_word"] == in_force and since in (second - 1, second)

            client.wait(f"{name} on ~/prompt_set", is_published)

        check(1, "tunnels")
        assert client.set_parameter("random_word", str(mine)).successful
        check(2, "mine")
        for wrong in ("tunnel", "../random_word/default", str(tmp_path / "none.safetensors")):
            refused = client.set_parameter("random_word", wrong)
            assert not refused.successful
            assert wrong in refused.reason
            if ".safetensors" not in wrong:
                assert f"expected one of ['default', 'tunnels'], got '{wrong}'" in refused.reason
        assert client.get_parameter("random_word") == str(mine)
        assert client.set_parameter("random_word", "").successful
        check(3, "default")
        assert client.set_parameter("random_word", str(mine)).successful
        check(4, "mine")
        del diagnostics[:]
        engine = client.wait("diagnostics", lambda: diagnostic_values(diagnostics, "detector: engine"))
        assert engine["random-word network"] == "mine"
        assert client.set_parameter("method", "both").successful
        assert uncertainty(5) == pytest.approx((p("mine") + red_uncertainty()) / 2, abs=1e-4)
        assert not client.set_parameter("method", "random").successful
        assert client.set_parameter("method", "vl4ad").successful
        check(6, None)
        assert "Traceback" not in node.output()
