"""Live parameters and listeners over DDS: what a hostile value, a raised rate or an unusual listener does."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from ros_harness import Client, image_message, parameters, plain, running
from safetensors.numpy import save_file
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Float64

DETECTOR = "vl4ad_ros.nodes.detector"
REMAP = ("-r", "image:=/camera/image", "-r", "camera_info:=/camera/camera_info")
RED = plain((255, 0, 0))


def bfloat16_set(path: Path) -> None:
    """A safetensors file whose tensor NumPy has no type for."""
    head = {"__metadata__": {"vl4ad": "{}"}, "embeddings": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))


def set_with_numbers_for_names(mock_bundle: Path, path: Path) -> None:
    """A compiled set of the bundle, its columns' names replaced by numbers."""
    from safetensors import safe_open

    source = next(p for p in sorted(mock_bundle.rglob("*.safetensors")) if p.stem == "traffic")
    with safe_open(str(source), framework="numpy") as stream:
        tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a dict
        meta = json.loads(stream.metadata()["vl4ad"])
    meta["columns"] = list(range(len(meta["columns"])))
    save_file(tensors, str(path), metadata={"vl4ad": json.dumps(meta)})


def test_hostile_prompt_sets_and_values_are_refused_and_the_node_goes_on(
    mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    maps, _ = client.hear_results()
    bfloat16_set(tmp_path / "bf16.safetensors")
    set_with_numbers_for_names(mock_bundle, tmp_path / "numbers.safetensors")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "folder.safetensors").mkdir()
    with running(
        DETECTOR, tmp_path / "log", *REMAP, *parameters(bundle=str(mock_bundle), prompt_set="traffic")
    ) as process:
        client.wait_connected()
        for name in ("bf16", "numbers", "empty", "folder", "missing"):
            refused = client.set_parameter("prompt_set", str(tmp_path / f"{name}.safetensors"))
            assert not refused.successful, name
            assert f"{name}.safetensors" in refused.reason or "damaged" in refused.reason, refused.reason
        for parameter, value in (("temperature", 1e-40), ("temperature", float("nan")), ("threshold", float("inf"))):
            assert not client.set_parameter(parameter, value).successful, (parameter, value)
        for odd in ("x\x01", "☠" * 5000, "../" * 50, "%s%n"):
            assert not client.set_parameter("prompt_set", odd).successful
        assert client.get_parameter("prompt_set") == "traffic"
        client.send_until_heard(image_message(RED, stamp=(1, 0)), maps)
        assert process.alive()
    assert "Traceback" not in process.output()


def test_a_raised_rate_acts_at_once(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", max_rate=0.002)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        client.send_until_heard(image_message(RED, stamp=(1, 0)), maps)
        # The next one is due in 500 s, after the deadline.
        assert client.set_parameter("max_rate", 50.0).successful
        client.send_until_heard(image_message(RED, stamp=(2, 0)), maps)
        before = len(maps)
        assert client.set_parameter("max_rate", 0.002).successful

        def answered() -> bool:
            client.sender().publish(image_message(RED, stamp=(3, 0)))
            # It may be the frame before, had that been sent twice.
            return len(maps) > before

        client.wait("a result under the lowered rate", answered)
        assert client.set_parameter("max_rate", 0.0).successful
        client.send_until_heard(image_message(RED, stamp=(4, 0)), maps)
        assert client.set_parameter("max_rate", 50.0).successful
        client.send_until_heard(image_message(RED, stamp=(5, 0)), maps)


def test_the_prompt_set_is_told_while_inactive(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    told = client.hear_prompt_set()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", autostart=False)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        assert client.change_state(Transition.TRANSITION_CONFIGURE)
        client.wait("the set in force", lambda: told and json.loads(told[-1].data)["name"] == "traffic")
        assert client.set_parameter("prompt_set", "merged").successful
        client.wait("the set after the swap", lambda: json.loads(told[-1].data)["name"] == "merged")
        assert client.state() == "inactive"


@pytest.mark.parametrize(("message", "topic"), [(CameraInfo, "camera_info"), (Float64, "debug/engine_ms")])
def test_who_hears_only_what_goes_along_hears_it(
    message: type, topic: str, mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    heard = client.hear(message, f"/detector/{topic}")
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic")
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        info = CameraInfo(height=64, width=96)

        def sent() -> list[Any]:
            client.sender("/camera/camera_info", CameraInfo).publish(info)
            client.sender().publish(image_message(RED))
            return heard

        client.wait(topic, sent)


def own_memory(pid: int) -> int:
    """Bytes of a process's own, not those of files."""
    line = next(li for li in Path(f"/proc/{pid}/status").read_text().splitlines() if li.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_cleanup_gives_the_memory_back(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", autostart=False)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values) as process:
        assert client.state() == "unconfigured"
        at_first = own_memory(process.popen.pid)
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert client.change_state(transition)
        client.wait_connected()
        for second in range(1, 6):
            client.send_until_heard(image_message(plain((255, 0, 0), 1080, 1920), stamp=(second, 0)), maps)
        assert client.change_state(Transition.TRANSITION_DEACTIVATE)
        at_work = own_memory(process.popen.pid)
        assert client.change_state(Transition.TRANSITION_CLEANUP)
        in_the_end = own_memory(process.popen.pid)
    assert at_work - at_first > 20e6, "the frames left no memory that could be given back"
    assert in_the_end - at_first < 0.5 * (at_work - at_first)


def test_two_detectors_have_diagnostics_of_their_own_and_a_missing_clock_is_named(
    mock_bundle: Path, tmp_path: Path
) -> None:
    client = Client(detector="/front/detector")
    try:
        maps, _ = client.hear_results()
        diagnostics = client.hear_diagnostics()
        values = parameters(bundle=str(mock_bundle), prompt_set="traffic", use_sim_time=True)
        with running(DETECTOR, tmp_path / "log", "-r", "__ns:=/front", *REMAP, *values):
            client.wait_connected()

            def named() -> bool:
                client.sender().publish(image_message(RED, stamp=(7, 0)))
                statuses = {status.name: status for array in diagnostics for status in array.status}
                camera = statuses.get("front/detector: camera image")
                keys = {value.key for value in camera.values} if camera else set()
                return "no /clock" in keys and "age median (ms)" not in keys and "front/detector: engine" in statuses

            client.wait("the missing clock in the diagnostics", named)
            assert maps
    finally:
        client.close()
