"""Every setting, declared once: ROS parameters, command-line options, launch arguments and tables are made of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.engine import BACKENDS
from vl4ad_ros.runtime.parameters import Parameter, Settings, Value, parameters, setting
from vl4ad_ros.runtime.scores import METHODS, SCORINGS

METHOD_CHOICES = (*METHODS, "both")
OUTPUT_SIZES = ("input", "network", "mask")
RELIABILITIES = ("auto", "reliable", "best_effort")
MAP_FORMATS = ("png16", "jpeg")
if TYPE_CHECKING:  # a type cannot be made of a tuple there
    Backend: TypeAlias = str
    Scoring: TypeAlias = str
    Method: TypeAlias = str
    OutputSize: TypeAlias = str
    Reliability: TypeAlias = str
    MapFormat: TypeAlias = str
else:
    Backend, Scoring, OutputSize = Literal[BACKENDS], Literal[SCORINGS], Literal[OUTPUT_SIZES]
    Method, Reliability, MapFormat = Literal[METHOD_CHOICES], Literal[RELIABILITIES], Literal[MAP_FORMATS]


class ModelSettings(Settings):
    """The model bundle and what runs it."""

    bundle: str = setting("vl4ad-small", "Model bundle: the name of an installed one, or a folder.")
    backend: Backend = setting("onnxruntime", "Inference backend; one that is not available is an error.")
    device_id: int = setting(0, "Number of the GPU, for the backends that use one.", low=0, high=63)
    threads: int = setting(0, "CPU threads of the engine (ONNX Runtime); 0 lets it choose.", low=0, high=256)
    input_scale: float = setting(
        1.0,
        "Sides of the network's input over the bundle's own, for dense bundles: more sees smaller and farther things, "
        "and costs time by its square.",
        low=0.25,
        high=4.0,
    )


class MapSettings(Settings):
    """What is asked of the network, and how the uncertainty is made of its answer."""

    prompt_set: str | None = setting(
        None,
        "Prompt set of the bundle, or a .safetensors file.",
        live=True,
        unset="",
        own="the bundle's own",
    )
    scoring: Scoring | None = setting(None, "How the score is made.", live=True, unset="", own="the bundle's own")
    method: Method = setting(METHODS[0], "Anomaly method, of those that the bundle has.", live=True)
    random_word: str | None = setting(
        None,
        "Random-word network of the bundle, or a .safetensors file, for `method` random_word and both.",
        live=True,
        unset="",
        own="the bundle's default",
    )
    temperature: float | None = setting(
        None, "Softmax temperature T.", live=True, low=0.0, high=1000.0, unset=0.0, own="the prompt set's own"
    )


class PromptSettings(MapSettings):
    """What makes the uncertainty map, and from which uncertainty on a pixel is an anomaly."""

    threshold: float | None = setting(
        None,
        "Uncertainty at and above which a pixel is an anomaly.",
        live=True,
        low=0.0,
        high=1.0,
        unset=-1.0,
        own="the threshold of the prompt set, method and score",
    )


class NodeSettings(Settings):
    """The node: its cameras, and what it does when it starts."""

    cameras: list[str] = setting(
        [""],
        "Camera names, each with `<name>/image` as input and `~/<name>/...` as outputs, all on one engine. One empty "
        "name: a single camera on `image`.",
    )
    compressed: bool = setting(
        False,
        "Subscribe to `image/compressed` (sensor_msgs/CompressedImage), not to `image`; it is remapped by that name.",
    )
    image_reliability: Reliability = setting(
        RELIABILITIES[0],
        "How images and camera_info are heard. auto: reliably where every publisher of the topic offers it, else with "
        "best effort; looked at again as publishers come and go.",
        live=True,
    )
    roi_masks: list[str] = setting(
        [""],
        "Region of interest: one image file per camera, in the order of `cameras` (empty: none), of any size. Where it "
        "is below 128, the uncertainty is 0.",
    )
    max_batch: int = setting(
        0,
        "Frames of different cameras in one engine call at most; 0: one per camera on a GPU, 1 on a CPU.",
        low=0,
        high=64,
    )
    batch_wait_ms: float = setting(
        0.0,
        "How long a frame waits for those of the other cameras, to run them as one batch.",
        live=True,
        low=0.0,
        high=1000.0,
    )
    auto_build: bool = setting(
        False,
        "Build a missing or stale TensorRT engine when the node is configured, which takes minutes; false: an error.",
    )
    autostart: bool = setting(
        True,
        "Configure and activate at start; false: for a lifecycle manager.",
        at_start=True,
    )
    exit_on_fault: bool = setting(
        False,
        "A fault at the start (parameters, bundle, engine, topics) ends the process with status 2. false leaves the "
        "node unconfigured, and /diagnostics says why.",
        at_start=True,
    )


class OutputSettings(Settings):
    """What is published, and how often."""

    output_size: OutputSize = setting(
        OUTPUT_SIZES[0], "Size of the maps: the camera's, the network's input, or the score's own.", live=True
    )
    uncertainty_format: MapFormat = setting(
        MAP_FORMATS[0],
        "Of `~/uncertainty/compressed`: png16 (mono16, uncertainty times 65535) or jpeg (mono8, times 255, lossy).",
    )
    max_rate: float = setting(
        0.0, "Frames per second and camera at most; 0: no limit.", live=True, low=0.0, high=1000.0
    )
    enabled: bool = setting(True, "false drops every frame, with all memory kept.", live=True)
    min_region_area: int = setting(
        50, "Smaller regions (pixels of the mask) are not reported.", live=True, low=0, high=1 << 30
    )


class TrackSettings(Settings):
    """How regions are followed over frames."""

    prefix: ClassVar[str] = "tracks."

    confirm: int = setting(3, "Frames out of `tracks.window` that confirm a track.", live=True, low=1, high=100)
    window: int = setting(5, "Frames in which a track has to be confirmed.", live=True, low=1, high=100)
    start_margin: float = setting(
        0.05,
        "A track begins where a region's largest uncertainty is this far above `threshold`.",
        live=True,
        low=0.0,
        high=1.0,
    )
    patience_s: float = setting(
        0.5, "A track that is not seen for longer than this ends.", live=True, low=0.0, high=60.0
    )


class GroundSettings(Settings):
    """Where the ground is before the camera, for the distances of obstacles."""

    prefix: ClassVar[str] = "ground."

    frame: str = setting(
        "",
        "TF frame whose plane z = 0 is the ground (`base_footprint`), for height and pitch from TF (with tf2_ros); "
        "empty: from the two parameters.",
        live=True,
    )
    height: float = setting(
        0.0, "Height of the camera above the ground, metres; 0: unknown.", live=True,
        low=0.0, high=100.0,
    )  # fmt: skip
    pitch: float = setting(
        0.0, "Pitch of the camera against the ground, radians, positive downwards.", live=True, low=-1.5, high=1.5
    )
    height_sigma: float = setting(0.03, "Standard deviation of the height, metres.", live=True, low=0.0, high=10.0)
    pitch_sigma: float = setting(
        0.005, "Standard deviation of the pitch (calibration, braking, bumps), radians.", live=True, low=0.0, high=1.0
    )
    pixel_sigma: float = setting(
        1.0, "Standard deviation of a region's lower edge, pixels of the published map.", live=True, low=0.0, high=100.0
    )
    max_distance: float = setting(
        60.0, "Farther away than this nothing is located, metres.", live=True, low=1.0, high=1000.0
    )
    rectified: bool = setting(
        False, "The images are rectified: camera_info's P holds for them, not K and D.", live=True
    )


def _limit(default: float, help: str, high: float) -> Any:
    return setting(default, help, live=True, low=0.0, high=high)


class DiagnosticsSettings(Settings):
    """From when on the diagnostics warn."""

    prefix: ClassVar[str] = "diagnostics."

    age_warn_ms: float = _limit(200.0, "WARN where a result is older than this; 0: never.", 3.6e6)
    age_error_ms: float = _limit(1000.0, "ERROR where a result is older than this; 0: never.", 3.6e6)
    rate_warn_hz: float = _limit(0.0, "WARN where a camera's results come more slowly than this; 0: never.", 1000.0)
    rate_error_hz: float = _limit(0.0, "ERROR where a camera's results come more slowly than this; 0: never.", 1000.0)
    silent_warn_s: float = _limit(2.0, "WARN where a camera sent nothing for so long; 0: never.", 3600.0)
    silent_error_s: float = _limit(0.0, "ERROR where a camera sent nothing for so long; 0: never.", 3600.0)
    bad_input_warn_ratio: float = _limit(0.0, "WARN where more than this share of a camera's frames was unusable.", 1.0)
    bad_input_error_ratio: float = _limit(
        0.5, "ERROR where more than this share of a camera's frames was unusable.", 1.0
    )


class OverlaySettings(Settings):
    """What the overlay node draws."""

    detector: str = setting("detector", "Name of the detector node, relative to the namespace.")
    camera: str = setting("", "Name of the camera, for a detector with several; empty for the single one.")
    compressed: bool = setting(False, "Take the camera's `image/compressed`, not `image`.")
    image_reliability: Reliability = setting(
        RELIABILITIES[0],
        "How images and results are heard, as the detector's.",
    )
    regions: bool = setting(True, "Draw the regions' boxes and scores (the detector then computes them).")
    max_width: int = setting(
        960, "Wider images are drawn at this width (pixels); 0: as wide as the camera's.", low=0, high=16384
    )
    jpeg_quality: int = setting(85, "Quality of `~/image/compressed`.", low=1, high=100)


PARAMETERS = parameters(
    ModelSettings,
    NodeSettings,
    PromptSettings,
    OutputSettings,
    TrackSettings,
    GroundSettings,
    DiagnosticsSettings,
)
OVERLAY_PARAMETERS = parameters(OverlaySettings)
BY_NAME: dict[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}


def from_ros(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return some of the detector's parameters as settings, where None is unset."""
    return {name: BY_NAME[name].as_setting(values[name]) for name in names}


def to_ros(*groups: Settings) -> dict[str, Value]:
    """Return the detector's parameters that make its settings those of the groups; defaults are left out."""
    return {
        group.prefix + name: BY_NAME[group.prefix + name].from_setting(getattr(group, name))
        for group in groups
        for name, field in type(group).model_fields.items()
        if getattr(group, name) != field.default
    }


def check_values(values: Mapping[str, Any]) -> None:
    """Check what a range cannot say."""
    for name, value in values.items():
        choices = BY_NAME[name].choices if name in BY_NAME else ()
        if choices and value not in (*choices, BY_NAME[name].unset):
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
