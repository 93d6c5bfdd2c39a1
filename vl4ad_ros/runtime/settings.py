"""The nodes' parameters, declared once: the nodes, their checks and the documentation all read these tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.engine_factory import BACKENDS
from vl4ad_ros.runtime.score_names import METHODS, SCORINGS

Value = bool | int | float | str | list[str]
RELIABILITIES = ("auto", "reliable", "best_effort")
OUTPUT_SIZES = ("input", "network", "mask")


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: Its ROS name.
        default: Its default; gives the type.
        description: What `ros2 param describe` and the documentation say.
        live: Whether a change acts on the next frame; a static one is read when the node is configured.
        at_start: Whether a static one is read only when the process starts.
        low: Smallest value of a number.
        high: Largest value of a number.
        choices: Allowed texts; empty for any.
    """

    name: str
    default: Value
    description: str
    live: bool = False
    at_start: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def full_description(self) -> str:
        """The description with what applies to it: choices, and when a change acts."""
        read = "when the process starts" if self.at_start else "when the node is configured"
        when = "Live: acts on the next frame." if self.live else f"Static: read {read}."
        allowed = f" One of {', '.join(self.choices)}." if self.choices else ""
        return f"{self.description}{allowed} {when}"

    @property
    def type_name(self) -> str:
        """Name of the type, as in `ros2 param describe`."""
        if isinstance(self.default, list):
            return "string array"
        return {bool: "bool", int: "integer", float: "double", str: "string"}[type(self.default)]


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("bundle", "vl4ad-small", "Model bundle: the name of an installed one, or a folder."),
    Parameter("backend", "onnxruntime", "Inference backend; what is not there is an error.", choices=BACKENDS),
    Parameter("device_id", 0, "Number of the GPU, for the backends that use one.", low=0, high=63),
    Parameter("threads", 0, "CPU threads of the engine (ONNX Runtime); 0 lets it choose.", low=0, high=256),
    Parameter(
        "auto_build",
        False,
        "Build a missing or stale TensorRT engine when the node is configured, which takes minutes; false names the "
        "part that is stale and the command that builds it.",
    ),
    Parameter(
        "cameras",
        [""],
        "Camera names. One empty name: a single camera on `image`. Names: each has `<name>/image` as input and "
        "`~/<name>/...` as outputs, all on one engine.",
    ),
    Parameter(
        "compressed",
        False,
        "Subscribe to `image/compressed` (sensor_msgs/CompressedImage), not to `image`; it is remapped by that name.",
    ),
    Parameter(
        "image_reliability",
        RELIABILITIES[0],
        "How images and camera_info are heard. auto: reliably where every publisher of the topic offers it, else with "
        "best effort; looked at again as publishers come and go. The subscription is then made anew.",
        live=True,
        choices=RELIABILITIES,
    ),
    Parameter(
        "roi_masks",
        [""],
        "Region of interest: one image file per camera, in the order of `cameras` (empty: none). Where it is dark, "
        "below 128 (the own bonnet, the sky), the uncertainty is 0; it is stretched to the output's size.",
    ),
    Parameter(
        "max_batch",
        0,
        "Frames of different cameras in one engine call at most; 0: one per camera on a GPU, 1 on a CPU.",
        low=0,
        high=64,
    ),
    Parameter(
        "batch_wait_ms",
        0.0,
        "Once a frame is there, wait so long for those of the other cameras, to run them as one batch.",
        live=True,
        low=0.0,
        high=1000.0,
    ),
    Parameter(
        "autostart",
        True,
        "Configure and activate at start. false leaves the node unconfigured, for a lifecycle manager.",
        at_start=True,
    ),
    Parameter(
        "prompt_set", "", "Prompt set of the bundle, or a .safetensors file; empty: the bundle's own.", live=True
    ),
    Parameter(
        "threshold",
        -1.0,
        "Uncertainty at and above which a pixel is an anomaly; below 0: the bundle's own threshold.",
        live=True,
        low=-1.0,
        high=1.0,
    ),
    Parameter("scoring", SCORINGS[0], "How the score is made.", live=True, choices=SCORINGS),
    Parameter(
        "method", METHODS[0], "Anomaly method, of those that the bundle has.", live=True, choices=(*METHODS, "both")
    ),
    Parameter(
        "random_word",
        "",
        "Random-word network of the bundle, or a .safetensors file, for `method` random_word and both; empty: the "
        "bundle's default.",
        live=True,
    ),
    Parameter("temperature", 0.0, "Softmax temperature T; 0: the prompt set's own.", live=True, low=0.0, high=1000.0),
    Parameter(
        "output_size",
        "input",
        "Size of the maps: the camera's, the network's input, or the score's own.",
        live=True,
        choices=OUTPUT_SIZES,
    ),
    Parameter("max_rate", 0.0, "Frames per second and camera at most; 0: no limit.", live=True, low=0.0, high=1000.0),
    Parameter("enabled", True, "false drops every frame, with all memory kept.", live=True),
    Parameter(
        "min_region_area", 50, "Smaller regions (pixels of the mask) are not reported.", live=True, low=0, high=1 << 30
    ),
    Parameter(
        "diagnostics.age_warn_ms", 200.0, "WARN where a result is older than this against its stamp; 0: never.",
        live=True, low=0.0, high=3.6e6,
    ),
    Parameter(
        "diagnostics.age_error_ms", 1000.0, "ERROR where a result is older than this against its stamp; 0: never.",
        live=True, low=0.0, high=3.6e6,
    ),
    Parameter(
        "diagnostics.rate_warn_hz", 0.0, "WARN where a camera's results come more slowly than this; 0: never.",
        live=True, low=0.0, high=1000.0,
    ),
    Parameter(
        "diagnostics.rate_error_hz", 0.0, "ERROR where a camera's results come more slowly than this; 0: never.",
        live=True, low=0.0, high=1000.0,
    ),
    Parameter(
        "diagnostics.silent_warn_s", 2.0, "WARN where a camera sent nothing for so long; 0: never.",
        live=True, low=0.0, high=3600.0,
    ),
    Parameter(
        "diagnostics.silent_error_s", 0.0, "ERROR where a camera sent nothing for so long; 0: never.",
        live=True, low=0.0, high=3600.0,
    ),
    Parameter(
        "diagnostics.bad_input_warn_ratio", 0.0,
        "WARN where more than this share of a camera's frames of the last period was unusable.",
        live=True, low=0.0, high=1.0,
    ),
    Parameter(
        "diagnostics.bad_input_error_ratio", 0.5,
        "ERROR where more than this share of a camera's frames of the last period was unusable.",
        live=True, low=0.0, high=1.0,
    ),
)  # fmt: skip
OVERLAY_PARAMETERS: tuple[Parameter, ...] = (
    Parameter("detector", "detector", "Name of the detector node whose results are drawn, relative to the namespace."),
    Parameter("camera", "", "Name of the camera, for a detector with several; empty for the single one."),
    Parameter("compressed", False, "Take the camera's `image/compressed`, not `image`."),
    Parameter(
        "image_reliability",
        RELIABILITIES[0],
        "How images and results are heard. auto: reliably where every publisher of the topic offers it, else with best "
        "effort.",
        choices=RELIABILITIES,
    ),
    Parameter("regions", True, "Draw the regions' boxes and scores (the detector then computes them)."),
    Parameter(
        "max_width",
        960,
        "Wider images are drawn at this width (pixels); 0: as wide as the camera's.",
        low=0,
        high=16384,
    ),
    Parameter("jpeg_quality", 85, "Quality of `~/image/compressed`.", low=1, high=100),
)
BY_NAME: dict[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}


def check_values(values: Mapping[str, Any]) -> None:
    """Check what a range cannot say.

    Raises:
        Vl4adError: If a text is none of its parameter's choices, or the cameras contradict each other.
    """
    for name, value in values.items():
        choices = BY_NAME[name].choices if name in BY_NAME else ()
        if choices and value not in choices:
            raise Vl4adError(f"{name}: expected one of {list(choices)}, got '{value}'.")
    if "cameras" in values:
        _check_cameras(list(values["cameras"]))


def _check_cameras(cameras: list[str]) -> None:
    if not cameras:
        raise Vl4adError("cameras: expected at least one name ('' for the single camera on 'image').")
    if len(set(cameras)) != len(cameras):
        raise Vl4adError(f"cameras: a name stands twice in {cameras}.")
    for name in cameras:
        plain = name.isascii() and name.isidentifier() and not name.endswith("_") and "__" not in name
        if not plain and not (name == "" and len(cameras) == 1):
            raise Vl4adError(f"cameras: '{name}' is no topic name (letters, digits and _, a letter first).")
