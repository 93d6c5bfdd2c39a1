"""Loading TensorRT: `tensorrt` 10 and 11 and `tensorrt_rtx` share one interface, so the code that uses them is one.

Typed by `tensorrt-stubs` for all of them. What differs between them is here and nowhere else.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
from dataclasses import dataclass
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

# TensorRT warns of this and builds an engine that cannot run.
_INCONSISTENT = "not self-consistent"

_logger = logging.getLogger("vl4ad_ros.tensorrt")


@dataclass(frozen=True)
class TensorRtLibrary:
    """A loaded TensorRT.

    Attributes:
        name: `tensorrt` or `tensorrt_rtx`.
        module: The Python module; one interface, typed as `tensorrt`.
    """

    name: str
    module: ModuleType

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
        return cast("trt.ILogger", _make_logger(self.module))

    def last_errors(self) -> str:
        """Return what TensorRT said last at level error or above, and forget it; for the text of an exception."""
        errors: list[str] = cast(Any, self.log).errors
        text = "; ".join(errors[-3:]) or "TensorRT gave no reason"
        errors.clear()
        return text

    def inconsistencies(self) -> str:
        """Return what TensorRT said about image sizes that the graph cannot take, and forget it."""
        found: list[str] = cast(Any, self.log).inconsistent
        text = "; ".join(found[:2])
        found.clear()
        return text


def load_library(name: str = "auto") -> TensorRtLibrary:
    """Import a TensorRT.

    Args:
        name: `tensorrt`, `tensorrt_rtx`, or `auto`: the first of them that is installed.

    Raises:
        Vl4adError: If it is not installed or cannot be loaded; says how to get it.
    """
    if name == "auto":
        for candidate in LIBRARIES:
            if _installed(candidate):
                return load_library(candidate)
        raise Vl4adError(
            f"Neither tensorrt nor tensorrt_rtx is installed; get one: {_HOW_TO_GET['tensorrt']}, "
            f"or {_HOW_TO_GET['tensorrt_rtx']}."
        )
    if name not in LIBRARIES:
        raise Vl4adError(f"Unknown TensorRT library: expected one of {['auto', *LIBRARIES]}, got '{name}'.")
    if not _installed(name):
        raise Vl4adError(f"{name} is not installed; get it with: {_HOW_TO_GET[name]}.")
    try:
        module = _import_rtx() if name == "tensorrt_rtx" else importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise Vl4adError(f"{name} is installed but cannot be loaded ({error}).") from error
    return TensorRtLibrary(name, module)


def _installed(name: str) -> bool:
    """Tell whether a library's Python package is there; type stubs alone (a package without code) do not count."""
    names = ("tensorrt_rtx", "tensorrt_rtx_bindings") if name == "tensorrt_rtx" else (name,)
    return any((spec := importlib.util.find_spec(n)) is not None and spec.origin is not None for n in names)


def _import_rtx() -> ModuleType:
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        return importlib.import_module("tensorrt_rtx")
    carrier = importlib.util.find_spec(_RTX_CARRIER)
    if carrier is not None and carrier.origin is not None:
        folder = Path(carrier.origin).parent
        for pattern in ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*"):
            for library in sorted(folder.glob(pattern)):
                # Global, so that the bindings find the symbols of a library that is on no search path.
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_rtx_bindings")


def _make_logger(module: Any) -> object:
    severity = module.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG,
    }

    class Log(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []
            self.inconsistent: list[str] = []

        def log(self, level: Any, message: str) -> None:
            if levels[level] == logging.ERROR:
                self.errors.append(" ".join(message.split()))
            if _INCONSISTENT in message:
                self.inconsistent.append(" ".join(message.split()))
            _logger.log(levels[level], "%s", message)

    return Log()
