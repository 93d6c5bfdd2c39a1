"""Everything that a run reads: frames, label table, objects. All data errors are found here, before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import read_picture
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.compile import embed_concepts
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.training.config import DataSet, Objects, TrainConfig
from vl4ad_ros.training.cutouts import Cutouts, UInt8, known_things, load_cutouts, plain_name
from vl4ad_ros.training.frames import Frames, list_pictures, load_frames, read_each, refuse
from vl4ad_ros.training.label_tables import LabelTable, make_label_table
from vl4ad_ros.training.scenes import ObjectPaster
from vl4ad_ros.training.stream import SampleStream

GROUND = ("road", "sidewalk", "terrain")
"""Classes of the vocabulary that objects are put on, where it has them."""

THINGS = ("person", "rider", "car", "truck", "bus", "motorcycle", "bicycle", "traffic sign", "traffic light")
"""Classes whose members are cut out of the training frames and put in elsewhere, with their own label."""

MIN_SIDE = 700
"""Shorter side of frames that are good enough to cut things out of them, pixels."""


@dataclass(frozen=True)
class RunData:
    """All data of a run."""

    vocabulary: PromptSet
    table: LabelTable  # label table of all training and validation sets, in this order
    samples: SampleStream  # makes training samples
    validation: tuple[Frames, ...]  # frames of each validation set, in the order of the configuration
    names: tuple[str, ...] = ()  # names of all objects, as text; empty without objects
    train_names: tuple[int, ...] = ()  # indices of the names that training may use
    test_paster: ObjectPaster | None = None  # pastes the held-out names only; None without objects


def load_data(config: TrainConfig, also: Sequence[DataSet] = (), encoder: TextEncoder | None = None) -> RunData:
    """Read all data and check `also`; one error lists all faults. Without an encoder no name is near another."""
    vocabulary = load_prompt_set(prompt_yaml(config.vocabulary))
    classes = tuple(vocabulary.columns())
    table = make_label_table(classes, [*config.datasets, *config.validation.sets])
    train, errors = _load_sets(config, config.datasets, table.lookup)
    max_frames, lookups = config.validation.max_frames, table.lookup[len(train) :]
    validation, wrong = _load_sets(config, config.validation.sets, lookups, max_frames)
    errors += wrong + _load_sets(config, also, make_label_table(classes, also).lookup)[1]
    objects = config.objects
    if objects is None:
        refuse(errors)
        return RunData(vocabulary, table, SampleStream(config, train, None), validation)
    cutouts, wrong = load_cutouts(objects, config.data_root, config.output / "cache", config.seed)
    textures, faulty = _textures(config, objects)
    refuse(errors + wrong + faulty)
    held_out = _held_out(objects, cutouts, config.seed)
    trained = np.setdiff1d(np.arange(len(cutouts.names)), [*held_out, *_near(objects, cutouts, held_out, encoder)])
    ground, things = table.rows_within(GROUND), table.rows_within(THINGS)
    sharp = [frames for frames in train if len(frames) and min(frames.images[0].shape[:2]) >= MIN_SIDE]
    known = [thing for frames in sharp for thing in known_things(frames, things, objects.longest)]
    paster = ObjectPaster(objects, cutouts, trained, table.void, ground, textures, known)
    return RunData(
        vocabulary,
        table,
        SampleStream(config, train, paster),
        validation,
        cutouts.names,
        tuple(trained.tolist()),
        ObjectPaster(objects, cutouts, held_out, table.void, ground),
    )


def _load_sets(
    config: TrainConfig, sets: Sequence[DataSet], lookups: Sequence[UInt8], max_frames: int | None = None
) -> tuple[tuple[Frames, ...], list[str]]:
    loaded = [
        load_frames(data, config.data_root, lookup, max_frames) for data, lookup in zip(sets, lookups, strict=False)
    ]
    return tuple(frames for frames, _ in loaded), [error for _, errors in loaded for error in errors]


def _textures(config: TrainConfig, objects: Objects) -> tuple[list[UInt8], list[str]]:
    paths = [path for root in objects.textures for path in list_pictures(config.data_root / root)]
    if objects.textures and not paths:
        raise Vl4adError(f"objects.textures: no pictures in {config.data_root / objects.textures[0]}")
    return read_each(lambda path: read_picture(path, as_stored=True), paths)


def _held_out(objects: Objects, cutouts: Cutouts, seed: int) -> np.ndarray:
    """Indices of the names that training never sees."""
    if isinstance(objects.held_out, float):
        count = len(cutouts.names)
        return np.sort(np.random.default_rng([seed, 1]).permutation(count)[: max(1, round(count * objects.held_out))])
    wanted = [plain_name(name) for name in objects.held_out]
    unknown = [name for name in wanted if name not in cutouts.names]
    if unknown:
        raise Vl4adError(f"objects.held_out: there is no object named '{unknown[0]}'")
    return np.array(sorted(cutouts.names.index(name) for name in wanted))


def _near(objects: Objects, cutouts: Cutouts, held_out: np.ndarray, encoder: TextEncoder | None) -> np.ndarray:
    """Indices of names that say nearly the same as a held-out one: all dogs stay together."""
    if encoder is None or objects.near == 1:
        return np.zeros(0, np.int64)
    rows = embed_concepts(list(cutouts.names), ["{}"], encoder)
    return np.flatnonzero((rows @ rows[held_out].T).max(1) >= objects.near)
