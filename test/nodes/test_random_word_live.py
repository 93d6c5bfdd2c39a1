"""The second method through the live node: `method` switched by parameter, values from the known answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from both_bundle import write_both_bundle
from mock_bundle import ColourEncoder, red_uncertainty
from ros_harness import REMAP, Client, image_message, map_pixels, parameters, plain, running

from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.runtime.random_word_files import install
from vl4ad_ros.runtime.random_word_network import load_network, untrained_network


def test_the_method_is_switched_live(client: Client, tmp_path: Path) -> None:
    network = untrained_network(ColourEncoder.dim, ColourEncoder.id)
    bundle = install(write_both_bundle(tmp_path / "both"), network)
    p = float(network.probability(np.array([1, 0, 0], np.float32)))
    assert abs(p - red_uncertainty()) > 0.1
    with running(
        "vl4ad_ros.nodes.detector", tmp_path / "detector.log", *REMAP, *parameters(bundle=str(bundle.path))
    ) as node:
        maps, _ = client.hear_results()
        client.wait_connected()

        def uncertainty(second: int) -> float:
            image = image_message(plain((255, 0, 0)), stamp=(second, 0))
            return float(map_pixels(client.send_until_heard(image, maps)).mean())

        assert uncertainty(1) == pytest.approx(red_uncertainty(), abs=1e-4)
        assert client.set_parameter("method", "random_word").successful
        assert uncertainty(2) == pytest.approx(p, abs=1e-4)
        assert client.set_parameter("method", "both").successful
        assert uncertainty(3) == pytest.approx((p + red_uncertainty()) / 2, abs=1e-4)
        refused = client.set_parameter("method", "random")
        assert not refused.successful
        assert "got 'random'" in refused.reason
        assert client.set_parameter("method", "vl4ad").successful
        assert uncertainty(4) == pytest.approx(red_uncertainty(), abs=1e-4)
        assert "Traceback" not in node.output()


def test_the_network_is_switched_live(client: Client, tmp_path: Path) -> None:
    bundle = write_both_bundle(tmp_path / "both")
    for seed, name in enumerate(("default", "tunnels")):
        bundle = install(bundle, untrained_network(ColourEncoder.dim, ColourEncoder.id, seed), name)
    mine = tmp_path / "mine.safetensors"
    untrained_network(ColourEncoder.dim, ColourEncoder.id, 2).save(mine)
    files = {name: bundle.path / "random_word" / f"{name}.safetensors" for name in ("default", "tunnels")}
    files["mine"] = mine

    def p(name: str) -> float:
        return float(load_network(files[name]).probability(np.array([1, 0, 0], np.float32)))

    values = parameters(bundle=str(bundle.path), method="random_word", random_word="tunnels")
    with running("vl4ad_ros.nodes.detector", tmp_path / "detector.log", *REMAP, *values) as node:
        maps, _ = client.hear_results()
        told = client.hear_prompt_set()
        diagnostics = client.hear_diagnostics()
        client.wait_connected()

        def check(second: int, name: str | None) -> None:
            image = image_message(plain((255, 0, 0)), stamp=(second, 0))
            expected = red_uncertainty() if name is None else p(name)
            assert map_pixels(client.send_until_heard(image, maps)).mean() == pytest.approx(expected, abs=1e-4)
            in_force: dict[str, str] | None = None
            if name is not None:
                path = files[name]
                in_force = {"name": name, "version": load_network(path).version, "sha256": sha256_file(path)}

            def announced() -> Any:
                content = json.loads(told[-1].data)
                # The first frame with it: this one, or one that the last was sent again with.
                since = content["since"].get("", {}).get("sec")
                return content["random_word"] == in_force and since in (second - 1, second)

            client.wait(f"~/prompt_set tells of {name}", announced)

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
        # The file made anew is taken up when it is named again, and not before.
        untrained_network(ColourEncoder.dim, ColourEncoder.id, 7).save(mine)
        assert client.set_parameter("random_word", str(mine)).successful
        check(4, "mine")
        heard = len(diagnostics)

        def engine() -> dict[str, str] | None:
            statuses = [status for array in diagnostics[heard:] for status in array.status]
            values = ({v.key: v.value for v in s.values} for s in statuses if s.name.endswith(": engine"))
            return next(values, None)

        assert client.wait("diagnostics", engine)["random-word network"] == "mine"
        assert client.set_parameter("method", "vl4ad").successful
        check(5, None)
        # It is checked with any method.
        assert not client.set_parameter("random_word", "tunnel").successful
        assert "Traceback" not in node.output()
