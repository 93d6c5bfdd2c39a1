"""Prompt swaps under load: not one frame mixes two sets, and every frame's set follows from its stamp.

By command the long form: VL4AD_SWAPS=1000 python -m pytest test/nodes/test_proof_swaps.py
"""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mock_bundle import LIMITS, ColourEncoder, mock_card, write_mock_bundle
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from ros_harness import Client, image_message, map_pixels, parameters, plain, running

from vl4ad_ros.runtime.bundle import PROMPTS, InputSpec, write_card
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet

SWAPS = int(os.environ.get("VL4AD_SWAPS", "100"))
SETS = 12


def naming_graph() -> onnx.ModelProto:
    """A network whose output names its prompt set: the left half from the embeddings, the right from the settings.

    Score, left: -text_embeddings[0, 0]. Right: -settings[0] / 100, that is -1 / (100 T). Each set has its own of both,
    so that a frame of two sets, or of one set with another's temperature, shows it.
    """
    node, info = helper.make_node, helper.make_tensor_value_info

    def constant(name: str, value: object, dtype: type) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)

    nodes = [
        # The image takes part with weight 0, so that nothing can be computed ahead of it.
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        node("Mul", ["mean", "zero"], ["nothing"]),
        node("Slice", ["text_embeddings", "zeros2", "ones2"], ["corner"]),
        node("Reshape", ["corner", "single"], ["left"]),
        node("Slice", ["settings", "zeros1", "ones1"], ["rate"]),
        node("Mul", ["rate", "percent"], ["right"]),
        node("Concat", ["left", "left", "right", "right"], ["row"], axis=0),
        node("Reshape", ["row", "row_shape"], ["map"]),
        node("Unsqueeze", ["nothing", "last_axes"], ["batched"]),
        node("Sub", ["batched", "map"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes, "naming",
        [
            info("image", TensorProto.UINT8, ["batch", "height", "width", 3]),
            info("text_embeddings", TensorProto.FLOAT, [LIMITS.concepts, 3]),
            info("class_concepts", TensorProto.INT32, [LIMITS.columns, LIMITS.concepts_per_column]),
            info("class_mask", TensorProto.FLOAT, [2, LIMITS.columns]),
            info("settings", TensorProto.FLOAT, [8]),
        ],
        [info("score", TensorProto.FLOAT, ["batch", 1, 4])],
        [
            constant("axes", [1, 2, 3], np.int64), constant("zero", 0, np.float32),
            constant("zeros2", [0, 0], np.int64), constant("ones2", [1, 1], np.int64),
            constant("single", [1], np.int64), constant("zeros1", [0], np.int64),
            constant("ones1", [1], np.int64), constant("percent", 0.01, np.float32),
            constant("row_shape", [1, 1, 4], np.int64), constant("last_axes", [1, 2], np.int64),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def name_of(number: int) -> str:
    return f"set-{number:02d}"


def write_naming_bundle(path: Path) -> Path:
    """Set n has the embedding (n / 16, ...) and T = 16 / (100 n): both halves of its map show 1 - n / 16."""
    write_mock_bundle(path)
    for file in (path / PROMPTS).iterdir():
        file.unlink()
    onnx.save(naming_graph(), str(path / "model.onnx"))
    for number in range(1, SETS + 1):
        x = number / 16
        CompiledPromptSet(
            name=name_of(number), description="", columns=("one",), members=(("one",),), concepts=("one",),
            concept_column=np.zeros(1, np.int32), embeddings=np.array([[x, np.sqrt(1 - x * x), 0]], np.float32),
            num_id=1, temperature=16 / (100 * number), encoder_id=ColourEncoder.id, source_sha256="0",
        ).save(path / PROMPTS / f"{name_of(number)}.safetensors")  # fmt: skip
    size = InputSpec(height=32, width=64, multiple_of=4)
    write_card(path, mock_card("naming", input=size, stride=16, default_prompt_set=name_of(1)))
    return path


class Load:
    """Cameras that never stop: sends stamped frames from its own thread, as fast as it may."""

    def __init__(self, client: Client) -> None:
        self._stop = threading.Event()
        self._sender = client.sender()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def _run(self) -> None:
        frame = plain((9, 9, 9), 32, 64)
        while not self._stop.wait(0.004):
            self.sent += 1
            self._sender.publish(image_message(frame, stamp=(self.sent // 1000, self.sent % 1000)))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def set_of(message: Any) -> int:
    """The number of the set that made a map; fails where its halves disagree."""
    pixels: NDArray[np.float32] = map_pixels(message)
    left, right = (1 - pixels[:, 0]) * 16, (1 - pixels[:, -1]) * 16
    numbers = set(np.round(np.concatenate([left, right])).astype(int).tolist())
    assert len(numbers) == 1, f"a frame mixes the sets {numbers}"
    (number,) = numbers
    assert np.abs(np.concatenate([left, right]) - number).max() < 1e-3
    return int(number)


@pytest.mark.timeout(1200)
def test_no_frame_mixes_two_prompt_sets(tmp_path: Path, client: Client) -> None:
    bundle = write_naming_bundle(tmp_path / "naming")
    arguments = ("-r", "image:=/camera/image", *parameters(bundle=str(bundle), prompt_set=name_of(1)))
    with running("vl4ad_ros.nodes.detector", tmp_path / "log", *arguments) as process:
        maps, _ = client.hear_results()
        published = client.hear_prompt_set()
        client.wait_connected()
        history = [1]

        def newest_is(number: int) -> bool:
            return set_of(maps[-1]) == number

        with Load(client) as load:
            client.wait("the first map", lambda: maps)
            for swap in range(SWAPS):
                number = 1 + (swap * 5 + 1) % SETS
                if swap % 10 == 9:
                    assert not client.set_parameter("prompt_set", "set-99").successful
                assert client.set_parameter("prompt_set", name_of(number)).successful
                history.append(number)
                # The swap acts on the frames that come after it: the newest map must get there.
                client.wait("a map of the new set", partial(newest_is, number))

        def last_swap_is_published() -> bool:
            content = json.loads(published[-1].data)
            # A swap is published twice: when it is set, and, with the stamp, before its first frame.
            return bool(content["swap"] == SWAPS + 1 and "" in content["since"])

        client.wait("the last prompt set and its first stamp", last_swap_is_published)
    assert process.output().count("Traceback") == 0

    seen = [set_of(message) for message in maps]
    changes = [seen[0]] + [now for before, now in pairwise(seen) if now != before]
    assert changes == history, "the sets came in another order than they were set"
    assert len(maps) > SWAPS

    # Provenance: the set of a frame is the last one whose `since` is not after the frame's stamp.
    since: dict[int, tuple[tuple[int, int], int]] = {}
    for message in published:
        content = json.loads(message.data)
        for entry in [*content["previous"], content]:
            if "" in entry["since"]:
                stamp = entry["since"][""]
                since[entry["swap"]] = ((stamp["sec"], stamp["nanosec"]), int(entry["name"][4:]))
    assert len(since) == SWAPS + 1
    ordered = [since[swap] for swap in sorted(since)]
    for message in maps:
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        recovered = [number for first, number in ordered if first <= stamp][-1]
        assert recovered == set_of(message)
    assert load.sent >= len(maps)
