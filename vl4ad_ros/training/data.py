"""Everything that a run reads: frames, label table, objects. All data errors are found here, before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.training.config import DataSet, NamedObjects, TrainConfig
from vl4ad_ros.training.cutouts import Cutouts, make_cutouts
from vl4ad_ros.training.frames import Frames, load_frames, refuse
from vl4ad_ros.training.label_tables import LabelTable, built_in_ignore, built_in_table, make_label_table
from vl4ad_ros.training.scenes import ObjectPaster
from vl4ad_ros.training.stream import SampleMaker

GROUND = ("road", "sidewalk", "terrain")
"""Classes of the vocabulary that objects are put on, where it has them."""


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


def load_data(config: TrainConfig, also: Sequence[DataSet] = ()) -> RunData:
    """Read all data.

    Args:
        config: the run.
        also: further sets that are read and checked with the others, but not kept.

    Raises:
        Vl4adError: something is missing or wrong; all faulty frames of all sets are listed at once.
    """
    vocabulary = load_prompt_set(prompt_yaml(config.vocabulary))
    classes = tuple(vocabulary.columns())
    object_roots = _object_roots(config)
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
        cutouts, unreadable = _cutouts(config.objects, object_roots, config)
        errors.extend(unreadable)
    refuse(errors)
    train, validation = tuple(frames[: len(config.datasets)]), tuple(frames[len(config.datasets) :])
    if config.objects is None or cutouts is None:
        return RunData(vocabulary, table, SampleMaker(config, train, None), validation, (), (), None)
    held_out = _held_out(len(cutouts.names), config.objects.held_out, config.seed)
    trained = np.setdiff1d(np.arange(len(cutouts.names)), held_out)
    paster = _paster(config, cutouts, trained, table)
    return RunData(
        vocabulary,
        table,
        SampleMaker(config, train, paster),
        validation,
        cutouts.names,
        tuple(int(index) for index in trained),
        _paster(config, cutouts, held_out, table),
    )


def label_table(classes: tuple[str, ...], sets: Sequence[DataSet]) -> LabelTable:
    """The joint table of some sets.

    Raises:
        Vl4adError: a set names a class that the vocabulary lacks.
    """
    return make_label_table(classes, [(data.name, table_of(data), ignored(data)) for data in sets])


def _object_roots(config: TrainConfig) -> list[Path]:
    roots = [config.data_root / root for root in config.objects.roots] if config.objects is not None else []
    missing = [str(root) for root in roots if not root.is_dir()]
    if missing:
        raise Vl4adError(f"objects: the folder {missing[0]} does not exist")
    return roots


def _cutouts(objects: NamedObjects, roots: list[Path], config: TrainConfig) -> tuple[Cutouts, list[str]]:
    exclude = frozenset(name.lower() for name in objects.exclude)
    cache = Path(config.output) / "cache"
    return make_cutouts(roots, objects.per_class, exclude, objects.longest, config.seed, cache)


def _held_out(count: int, share: float, seed: int) -> np.ndarray:
    chosen = np.random.default_rng([seed, 1]).permutation(count)[: max(1, round(count * share))]
    return np.sort(chosen)


def _paster(config: TrainConfig, cutouts: Cutouts, allowed: np.ndarray, table: LabelTable) -> ObjectPaster:
    assert config.objects is not None
    ground = {table.classes.index(name) for name in GROUND if name in table.classes}
    rows = tuple(row for row in range(table.void) if ground and set(np.flatnonzero(table.rows[row]).tolist()) <= ground)
    return ObjectPaster(cutouts, allowed, table.void, rows, config.objects.size, config.objects.most)
