"""The second method through the live node: `method` switched by parameter, values from the known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from both_bundle import write_both_bundle
from mock_bundle import ColourEncoder, red_uncertainty
from ros_harness import ROOT, Client, image_message, map_pixels, parameters, plain, running

from vl4ad_ros.random_word.bundled import install
from vl4ad_ros.random_word.network import untrained_network

REMAP = ("-r", "image:=/camera/image", "-r", "camera_info:=/camera/camera_info")


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


def test_the_launch_file_hands_the_method_on() -> None:
    # `launch` has no wheels: its text is what can be checked without a ROS 2 installation.
    text = (ROOT / "launch" / "detector.launch.py").read_text(encoding="utf-8")
    assert '("method", "vl4ad", ' in text
    assert '"method": typed("method", str)' in text
