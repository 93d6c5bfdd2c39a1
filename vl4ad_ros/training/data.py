"""Everything that a run reads: frames, label table, objects. All data errors are found here, before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import PICTURES, read_picture
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.compile import embed_concepts
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.training.config import DataSet, Objects, TrainConfig
from vl4ad_ros.training.cutouts import Cutouts, known_things, make_cutouts, plain_name, read_masked
from vl4ad_ros.training.frames import Frames, load_frames, refuse
from vl4ad_ros.training.label_tables import LabelTable, built_in_ignore, built_in_table, make_label_table
from vl4ad_ros.training.scenes import ObjectPaster, Things
from vl4ad_ros.training.stream import SampleMaker

GROUND = ("road", "sidewalk", "terrain")
"""Classes of the vocabulary that objects are put on, where it has them."""

THINGS = ("person", "rider", "car", "truck", "bus", "motorcycle", "bicycle", "traffic sign", "traffic light")
"""Classes whose members are cut out of the training frames and put in elsewhere, with their own label."""

LEAST_SIDE = 700
"""Shorter side of frames that are good enough to cut things out of them, pixels."""


@dataclass(frozen=True)
class RunData:
    """All data of a run.

    Attributes:
        vocabulary: the classes.
        table: label table of all training and validation sets.
        maker: makes training samples.
        validation: frames of each validation set, in the order of the configuration.
        names: names of all objects, as text; empty without objects.
        train_names: indices of the names that training may use.
        test_paster: pastes the held-out names only; None without objects.
    """

    vocabulary: PromptSet
    table: LabelTable
    maker: SampleMaker
    validation: tuple[Frames, ...]
    names: tuple[str, ...]
    train_names: tuple[int, ...]
    test_paster: ObjectPaster | None

    def all_concepts(self) -> Tensor:
        """All concepts of each class, as rows of the embedded vocabulary: int64 [K,L], padded by the first one."""
        columns = self.vocabulary.columns()
        length = max(len(concepts) for concepts in columns.values())
        rows: list[list[int]] = []
        start = 0
        for concepts in columns.values():
            own = list(range(start, start + len(concepts)))
            rows.append(own + own[:1] * (length - len(own)))
            start += len(concepts)
        return torch.tensor(rows)


def table_of(data: DataSet) -> dict[int, tuple[str, ...]]:
    """Label value -> classes of a set."""
    if data.classes is None:
        return built_in_table(data.layout, data.labels)
    return {int(value): (names,) if isinstance(names, str) else tuple(names) for value, names in data.classes.items()}


def ignored(data: DataSet) -> frozenset[int]:
    """Label values of a set that carry no supervision."""
    own = built_in_ignore(data.layout, data.labels) if data.classes is None else frozenset()
    return own | frozenset(data.ignore)


def load_data(config: TrainConfig, also: Sequence[DataSet] = (), encoder: TextEncoder | None = None) -> RunData:
    """Read all data.

    Args:
        config: the run.
        also: further sets that are read and checked with the others, but not kept.
        encoder: tells which names are near a held-out one; None: none is.

    Raises:
        Vl4adError: something is missing or wrong; all faulty frames of all sets are listed at once.
    """
    vocabulary = load_prompt_set(prompt_yaml(config.vocabulary))
    classes = tuple(vocabulary.columns())
    _check_object_roots(config)
    sets = [*config.datasets, *config.validation.sets]
    table = label_table(classes, sets)
    frames: list[Frames] = []
    errors: list[str] = []
    for index, data in enumerate(sets):
        most = None if index < len(config.datasets) else config.validation.most
        loaded, wrong = load_frames(data, config.data_root, table.lookup[index], table.known[index], most)
        frames.append(loaded)
        errors.extend(wrong)
    others = label_table(classes, also)
    for index, data in enumerate(also):
        errors.extend(load_frames(data, config.data_root, others.lookup[index], others.known[index])[1])
    cutouts = None
    if config.objects is not None:
        cutouts, unreadable = _cutouts(config.objects, config)
        errors.extend(unreadable)
    refuse(errors)
    train, validation = tuple(frames[: len(config.datasets)]), tuple(frames[len(config.datasets) :])
    if config.objects is None or cutouts is None:
        return RunData(vocabulary, table, SampleMaker(config, train, None), validation, (), (), None)
    held_out = _held_out(config.objects, cutouts, config.seed)
    trained = np.setdiff1d(
        np.arange(len(cutouts.names)), [*held_out, *_near(config.objects, cutouts, held_out, encoder)]
    )
    ground = _rows_within(table, GROUND)
    textures = tuple(
        read_picture(path, as_stored=True)
        for root in config.objects.textures
        for path in sorted((config.data_root / root).rglob("*"))
        if path.suffix.lower() in PICTURES
    )
    known = [
        thing
        for part in train
        if len(part) and min(part.images[0].shape[:2]) >= LEAST_SIDE
        for thing in known_things(part.images, part.rows, _rows_within(table, THINGS), config.objects.longest)
    ]
    things = Things(cutouts, trained, textures, tuple(known))
    return RunData(
        vocabulary,
        table,
        SampleMaker(config, train, ObjectPaster(things, config.objects, table.void, ground)),
        validation,
        cutouts.names,
        tuple(int(index) for index in trained),
        ObjectPaster(Things(cutouts, held_out), config.objects, table.void, ground),
    )


def label_table(classes: tuple[str, ...], sets: Sequence[DataSet]) -> LabelTable:
    """The joint table of some sets.

    Raises:
        Vl4adError: a set names a class that the vocabulary lacks.
    """
    return make_label_table(classes, [(data.name, table_of(data), ignored(data)) for data in sets])


def _check_object_roots(config: TrainConfig) -> None:
    objects = config.objects
    roots = [*objects.roots, *objects.masked, *objects.textures] if objects is not None else []
    missing = [str(config.data_root / root) for root in roots if not (config.data_root / root).is_dir()]
    if missing:
        raise Vl4adError(f"objects: the folder {missing[0]} does not exist")


def _cutouts(objects: Objects, config: TrainConfig) -> tuple[Cutouts, list[str]]:
    exclude = frozenset(plain_name(name) for name in objects.exclude)
    roots = [config.data_root / root for root in objects.roots]
    cache = Path(config.output) / "cache"
    cutouts, errors = make_cutouts(roots, objects.per_class, exclude, objects.longest, config.seed, cache)
    for root in objects.masked:
        more, unreadable = read_masked(config.data_root / root, objects.longest, exclude)
        cutouts, errors = cutouts + more, errors + unreadable
    return cutouts, errors


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


def _rows_within(table: LabelTable, names: tuple[str, ...]) -> tuple[int, ...]:
    """Rows of the table that stand for nothing but some of these classes."""
    classes = {table.classes.index(name) for name in names if name in table.classes}
    members = (set(np.flatnonzero(table.rows[row]).tolist()) for row in range(table.void))
    return tuple(row for row, inside in enumerate(members) if classes and inside <= classes)
