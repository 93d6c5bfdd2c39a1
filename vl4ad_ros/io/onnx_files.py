"""The files beside an ONNX graph that it takes weights from ("external data"), found without the onnx package.

ONNX Runtime up to 1.23.2 opens whatever path a graph names. So a graph is searched before it is loaded, in protobuf's
wire format. What protobuf's own parsers might read in another way than this one does is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_regular

# Every way from a model to its tensors, in onnx.proto's field numbers: message -> number -> message.
MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto", 22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}  # fmt: skip
_ENTRY, _KEY, _VALUE = "StringStringEntryProto", 1, 2
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
_LONGEST_PATH = 4096
_DEEPEST = 100  # messages inside messages, as protobuf's own limit
# The shipped graph has 6,000; a file of nothing but empty fields would take minutes.
_MOST_FIELDS = 1_000_000


def external_data(path: Path) -> list[str]:
    """Return the files that a graph takes weights from, as it names them, sorted."""
    check_regular(path)
    try:
        with path.open("rb") as stream:
            return sorted(_WireFile(stream).locations())
    except OSError as error:
        raise Vl4adError(f"{path}: cannot be read ({error}).") from error
    except ValueError as error:
        raise Vl4adError(f"{path}: not an ONNX graph, or a damaged one ({error}).") from error


class _WireFile:
    """A model in protobuf's wire format; tensors' bytes are skipped, not read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._count = 0

    def locations(self) -> set[str]:
        """Search the whole file; `external_data` counts wherever it stands, whatever `data_location` says."""
        found: set[str] = set()
        open_messages = [("ModelProto", self._fields(0, self._stream.seek(0, 2)))]
        while open_messages:
            kind, fields = open_messages[-1]
            for number, begin, end in fields:
                inner = MESSAGES[kind].get(number)
                if inner == _ENTRY:
                    found |= self._location(begin, end)
                elif inner is not None:
                    if len(open_messages) == _DEEPEST:
                        raise ValueError(f"more than {_DEEPEST} messages inside each other")
                    open_messages.append((inner, self._fields(begin, end)))
                    break
            else:
                open_messages.pop()
        return found

    def _location(self, begin: int, end: int) -> set[str]:
        """Return the paths of an entry, all of them where it names several: none if its key is not `location`."""
        texts: dict[int, set[str]] = {_KEY: set(), _VALUE: set()}
        for number, start, stop in self._fields(begin, end):
            if number in texts:
                if stop - start > _LONGEST_PATH:
                    raise ValueError(f"a name of {stop - start} bytes")
                self._stream.seek(start)
                texts[number].add(self._stream.read(stop - start).decode(errors="backslashreplace"))
        return {str(PurePosixPath(value)) for value in texts[_VALUE]} if "location" in texts[_KEY] else set()

    def _fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number and the place (begin, end) of each field with a length: strings, bytes and messages."""
        at = begin
        while at < end:
            self._count += 1
            if self._count > _MOST_FIELDS:
                raise ValueError(f"more than {_MOST_FIELDS} fields")
            self._stream.seek(at)
            tag = self._varint()
            number, wire = tag >> 3, tag & 7
            # Groups (3 and 4) are in no ONNX file, and parsers cut longer tags in different ways.
            if wire not in (_VARINT, _BYTES, *_FIXED) or not 0 < number < 1 << 29:
                raise ValueError(f"an unknown kind of field at byte {at}")
            value = self._varint() if wire in (_VARINT, _BYTES) else 0
            start = self._stream.tell()
            at = start + (value if wire == _BYTES else _FIXED.get(wire, 0))
            if at > end:
                raise ValueError(f"the field at byte {start} is cut off")
            if wire == _BYTES:
                yield number, start, at

    def _varint(self) -> int:
        value = 0
        for index in range(10):
            byte = self._stream.read(1)
            if not byte:
                raise ValueError("it is cut off")
            value |= (byte[0] & 0x7F) << 7 * index
            if byte[0] < 0x80:
                return value
        raise ValueError(f"a number that does not end before byte {self._stream.tell()}")
