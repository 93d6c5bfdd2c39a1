"""A bundle reads its own files and no others, whatever its graph and its card name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mock_bundle import mock_graph, red_uncertainty
from onnx import helper
from onnx.external_data_helper import set_external_data

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.io.onnx_files import external_data
from vl4ad_ros.runtime.bundle import CARD, ModelBundle, write_card
from vl4ad_ros.runtime.detector import Detector

RED = np.full((64, 96, 3), (255, 0, 0), dtype=np.uint8)


def elsewhere(tensor: onnx.TensorProto, location: str = "x.bin") -> onnx.TensorProto:
    """Move a tensor's values into another file, which nobody writes."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def weights(location: str = "x.bin") -> onnx.TensorProto:
    return elsewhere(helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], b"0123", raw=True), location)


def tiny(model: onnx.ModelProto) -> onnx.TensorProto:
    """The one tensor of the mock that is no size: those ONNX Runtime wants in the graph itself."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == "tiny")


def sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=weights(), dims=[4])


def node(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], **attributes)


def graph(*nodes: onnx.NodeProto, **parts: Any) -> onnx.GraphProto:
    return onnx.GraphProto(node=nodes, **parts)


@pytest.mark.parametrize(
    "model",
    [
        onnx.ModelProto(graph=graph(initializer=[weights()])),
        onnx.ModelProto(graph=graph(sparse_initializer=[sparse()])),
        onnx.ModelProto(graph=graph(node(value=weights()))),
        onnx.ModelProto(graph=graph(node(sparse_value=sparse()))),
        onnx.ModelProto(graph=graph(node(values=[weights(), weights()]))),
        onnx.ModelProto(graph=graph(node(body=graph(node(then=graph(initializer=[weights()])))))),
        onnx.ModelProto(graph=graph(node(bodies=[graph(), graph(initializer=[weights()])]))),
        onnx.ModelProto(functions=[onnx.FunctionProto(node=[node(value=weights())])]),
        onnx.ModelProto(functions=[onnx.FunctionProto(attribute_proto=[helper.make_attribute("a", weights())])]),
        onnx.ModelProto(training_info=[onnx.TrainingInfoProto(algorithm=graph(initializer=[weights()]))]),
    ],
    ids=[
        "initializer", "sparse", "attribute", "sparse attribute", "tensors", "branch", "branches", "function",
        "attribute of a function", "training",
    ],
)  # fmt: skip
def test_external_data_is_found_wherever_it_stands(model: onnx.ModelProto, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx.ModelProto(producer_name="test").SerializeToString() + model.SerializeToString())
    assert external_data(file) == ["x.bin"]


def test_an_entry_that_names_itself_twice_hides_nothing(tmp_path: Path) -> None:
    """Protobuf takes the last of two keys, and joins the two halves of a tensor."""
    twice = onnx.StringStringEntryProto(key="checksum", value="/etc/passwd").SerializeToString()
    twice += onnx.StringStringEntryProto(key="location").SerializeToString()
    tensor = b"\x6a" + bytes([len(twice)]) + twice
    assert onnx.TensorProto.FromString(tensor).external_data[0].key == "location"
    inner = b"\x2a" + bytes([len(tensor)]) + tensor
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + bytes([len(inner)]) + inner)
    assert external_data(tmp_path / "model.onnx") == ["/etc/passwd"]


def test_a_graph_cut_anywhere_is_refused_or_searched_in_its_whole_fields(tmp_path: Path) -> None:
    model = mock_graph()
    elsewhere(model.graph.initializer[0])
    whole, file = model.SerializeToString(), tmp_path / "model.onnx"
    refused = 0
    lengths = range(0, len(whole), 5)
    for length in lengths:
        file.write_bytes(whole[:length])
        try:
            assert set(external_data(file)) <= {"x.bin"}
        except Vl4adError:
            refused += 1
    assert refused > len(lengths) * 0.9


def hostile() -> Iterator[bytes]:
    yield b"\x3a\x00" * 1_000_001  # empty graphs
    yield b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"  # a length of 70 bits
    yield b"\xff" * 20  # a number without an end
    yield b"\x3b\x3c"  # a group
    yield b"\xba\x80\x80\x80\x80\x01\x00"  # a field number beyond 32 bits
    deep = b""
    for _ in range(2000):
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            deep = tag + onnx_varint(len(deep)) + deep
    yield b"\x3a" + onnx_varint(len(deep)) + deep  # graphs in attributes in nodes in graphs


def onnx_varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


@pytest.mark.parametrize("content", [*hostile()], ids=["many", "long", "endless", "group", "number", "deep"])
def test_hostile_bytes_end_with_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(Vl4adError, match="not an ONNX graph, or a damaged one"):
        external_data(tmp_path / "model.onnx")


@pytest.fixture
def outside(mock_bundle: Path) -> ModelBundle:
    """The mock's bundle with its weights in a file `data/weights.bin` of the bundle."""
    bundle = ModelBundle.load(mock_bundle)
    (mock_bundle / "data").mkdir()
    model = mock_graph()
    set_external_data(tiny(model), "data/weights.bin")
    onnx.save(model, str(bundle.onnx_path))
    return ModelBundle(mock_bundle, write_card(mock_bundle, bundle.card))


def test_weights_in_a_file_of_the_bundle_are_used_and_hashed(outside: ModelBundle) -> None:
    assert external_data(outside.onnx_path) == ["data/weights.bin"]
    detector = Detector.open(outside.path)
    assert detector.detect(RED, detector.prompts("traffic"))[0, 0] == pytest.approx(red_uncertainty(), abs=1e-6)
    before, file = outside.onnx_sha256, outside.path / "data" / "weights.bin"
    assert outside.card.sha256["data/weights.bin"] == sha256_file(file)
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Vl4adError, match=r"damaged: data/weights\.bin does not match"):
        ModelBundle.load(outside.path)
    changed = ModelBundle(outside.path, write_card(outside.path, outside.card))
    assert changed.onnx_sha256 != before, "an engine built from other weights must be stale"


def absolute(secret: Path, bundle: Path) -> str:
    del bundle
    return str(secret)


def upwards(secret: Path, bundle: Path) -> str:
    return f"../{secret.name}" if secret.parent == bundle.parent else str(secret)


def link(secret: Path, bundle: Path) -> str:
    (bundle / "weights.bin").symlink_to(secret)
    return "weights.bin"


def folder_link(secret: Path, bundle: Path) -> str:
    (bundle / "data").symlink_to(secret.parent)
    return f"data/{secret.name}"


def memory_address(secret: Path, bundle: Path) -> str:
    """ONNX Runtime's own mark for tensors that lie in memory, at the address that `offset` gives."""
    (bundle / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (bundle / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(secret.read_bytes())
    return "*/_ORT_MEM_ADDR_/*"


@pytest.mark.parametrize("on_the_card", [False, True], ids=["not on the card", "on the card"])
@pytest.mark.parametrize("way", [absolute, upwards, link, folder_link, memory_address])
def test_weights_from_outside_the_bundle_are_refused(
    mock_bundle: Path, way: Callable[[Path, Path], str], on_the_card: bool
) -> None:
    secret = mock_bundle.parent / "secret"
    secret.write_bytes(np.float32(1e-6).tobytes())
    model = mock_graph()
    location = way(secret, mock_bundle)
    elsewhere(tiny(model), location)
    (mock_bundle / "model.onnx").write_bytes(model.SerializeToString())
    card = json.loads((mock_bundle / CARD).read_text())
    card["sha256"]["model.onnx"] = sha256_file(mock_bundle / "model.onnx")
    if on_the_card:
        card["sha256"][location] = sha256_file(secret)
    (mock_bundle / CARD).write_text(json.dumps(card))
    for verify in (True, False):
        with pytest.raises(Vl4adError, match=r"sha256 does not cover|outside the bundle|inside the bundle"):
            ModelBundle.load(mock_bundle, verify)


@pytest.mark.parametrize("name", ["/etc/passwd", "../model.onnx", "prompts/../../model.onnx", ".", "", "a//b", "./a"])
@pytest.mark.parametrize("key", ["onnx", "sha256"])
def test_a_card_names_only_files_of_the_bundle(mock_bundle: Path, key: str, name: str) -> None:
    card = json.loads((mock_bundle / CARD).read_text())
    card[key] = name if key == "onnx" else {**card["sha256"], name: "0" * 64}
    (mock_bundle / CARD).write_text(json.dumps(card))
    with pytest.raises(Vl4adError, match=rf"card\.json: {key}.*inside the bundle"):
        ModelBundle.load(mock_bundle)


def test_only_the_user_may_name_a_prompt_set_outside_the_bundle(mock_bundle: Path, tmp_path: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    file = tmp_path / "elsewhere.safetensors"
    bundle.load_prompt_set("traffic").save(file)
    assert bundle.load_prompt_set(file).name == "traffic"
    own = ModelBundle(bundle.path, bundle.card.model_copy(update={"default_prompt_set": str(file)}))
    with pytest.raises(Vl4adError, match="expected one of"):
        own.load_prompt_set()


def test_a_bundle_of_links_beside_each_other_is_read(mock_bundle: Path, tmp_path: Path) -> None:
    """As colcon's --symlink-install lays it out."""
    installed = tmp_path / "installed"
    for file in mock_bundle.rglob("*.*"):
        place = installed / file.relative_to(mock_bundle)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    assert ModelBundle.load(installed).load_prompt_set().name == "traffic"
