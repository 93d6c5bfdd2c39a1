"""Loading TensorRT: what differs between `tensorrt` 10, 11 and `tensorrt_rtx`, which share one (typed) interface."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt as trt

LIBRARIES: tuple[str, ...] = ("tensorrt", "tensorrt_rtx")

# The provider package of ONNX Runtime carries the libraries of TensorRT for RTX; PyPI has them nowhere else.
_RTX_CARRIER = "onnxruntime_ep_nv_tensorrt_rtx"
_HOW_TO_GET = {
    "tensorrt": "pip install tensorrt --extra-index-url of NVIDIA, or the TensorRT of JetPack (docs/tensorrt.md)",
    "tensorrt_rtx": "pip install 'vl4ad_ros[rtx]' (docs/tensorrt.md)",
}

_logger = logging.getLogger("vl4ad_ros.tensorrt")


@dataclass(frozen=True)
class TensorRtLibrary:
    """A loaded TensorRT."""

    name: str  # `tensorrt` or `tensorrt_rtx`
    module: ModuleType  # the Python module; one interface, typed as `tensorrt`
    errors: list[str] = field(default_factory=list)  # what TensorRT logged at level error or above
    # Its warnings that a graph cannot run at all image sizes; it builds such an engine all the same.
    inconsistencies: list[str] = field(default_factory=list)

    @property
    def version(self) -> str:
        """The library's version, e.g. `10.13.0.35`."""
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT for RTX: builds without a GPU, compiles kernels when the engine starts."""
        return self.name == "tensorrt_rtx"

    @cached_property
    def log(self) -> trt.ILogger:
        """TensorRT's logger, which writes to Python's logging under `vl4ad_ros.tensorrt` and keeps what went wrong."""
        base: Any = cast("Any", self.module).ILogger
        severity = base.Severity
        levels = {severity.INTERNAL_ERROR: logging.ERROR, severity.ERROR: logging.ERROR}
        levels[severity.WARNING] = logging.WARNING
        errors, inconsistencies = self.errors, self.inconsistencies

        class Log(base):
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                level, text = levels.get(severity, logging.DEBUG), " ".join(message.split())
                if level == logging.ERROR:
                    errors.append(text)
                if "not self-consistent" in text:
                    inconsistencies.append(text)
                _logger.log(level, "%s", message)

        return cast("trt.ILogger", Log())

    def last_errors(self) -> str:
        """Return the last errors and forget them; for the text of an exception."""
        text = "; ".join(self.errors[-3:]) or "TensorRT gave no reason"
        self.errors.clear()
        return text


def load_library(name: str = "auto") -> TensorRtLibrary:
    """Import `tensorrt` or `tensorrt_rtx`; `auto`: the first of them that is installed."""
    if name not in ("auto", *LIBRARIES):
        raise Vl4adError(f"Unknown TensorRT library: expected one of {['auto', *LIBRARIES]}, got '{name}'.")
    wanted = LIBRARIES if name == "auto" else (name,)
    found = next((candidate for candidate in wanted if _installed(candidate)), None)
    if found is None:
        how = ", or ".join(_HOW_TO_GET[candidate] for candidate in wanted)
        raise Vl4adError(f"{' or '.join(wanted)} is not installed; get it with: {how}.")
    try:
        return TensorRtLibrary(found, _import_rtx() if found == "tensorrt_rtx" else importlib.import_module(found))
    except (ImportError, OSError) as error:
        raise Vl4adError(f"{found} is installed but cannot be loaded ({error}).") from error


def _installed(name: str) -> bool:
    """Return whether a library's Python package is there; type stubs alone (a package without code) do not count."""
    names = ("tensorrt_rtx", "tensorrt_rtx_bindings") if name == "tensorrt_rtx" else (name,)
    return any((spec := importlib.util.find_spec(n)) is not None and spec.origin is not None for n in names)


def _import_rtx() -> ModuleType:
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        return importlib.import_module("tensorrt_rtx")
    carrier = importlib.util.find_spec(_RTX_CARRIER)
    if carrier is not None and carrier.origin is not None:
        for pattern in ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*"):
            for library in sorted(Path(carrier.origin).parent.glob(pattern)):
                # Global, so that the bindings find the symbols of a library that is on no search path.
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_rtx_bindings")
