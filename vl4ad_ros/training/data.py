"""Everything that a run reads: frames, label table, objects. All data errors are found here, before training starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.errors import Vl4adError
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.resources import prompt_yaml
from vl4ad_ros.training.config import DataSet, TrainConfig
from vl4ad_ros.training.cutouts import Cutouts, make_cutouts
from vl4ad_ros.training.frames import Frames, load_frames, refuse
from vl4ad_ros.training.label_tables import LabelTable, built_in_table, make_label_table
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
    """Label values of a set that carry no supervision; known layouts leave all that their table lacks."""
    if data.classes is None:
        return frozenset(data.ignore) | (frozenset(range(256)) - frozenset(table_of(data)))
    return frozenset(data.ignore)


def load_data(config: TrainConfig) -> RunData:
    """Read all data.

    Raises:
        Vl4adError: something is missing or wrong; all faulty frames of all sets are listed at once.
    """
    vocabulary = load_prompt_set(prompt_yaml(config.vocabulary))
    classes = tuple(vocabulary.columns())
    sets = [*config.datasets, *config.validation.sets]
    table = make_label_table(classes, [(data.name, table_of(data), ignored(data)) for data in sets])
    frames: list[Frames] = []
    errors: list[str] = []
    for index, data in enumerate(sets):
        most = None if index < len(config.datasets) else config.validation.most
        loaded, wrong = load_frames(data, config.data_root, table.lookup[index], table.known[index], most)
        frames.append(loaded)
        errors.extend(wrong)
    refuse(errors)
    train, validation = tuple(frames[: len(config.datasets)]), tuple(frames[len(config.datasets) :])
    if config.objects is None:
        return RunData(vocabulary, table, SampleMaker(config, train, None), validation, (), (), None)
    cutouts = _cutouts(config)
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


def _cutouts(config: TrainConfig) -> Cutouts:
    assert config.objects is not None
    objects = config.objects
    roots = [config.data_root / root for root in objects.roots]
    missing = [str(root) for root in roots if not root.is_dir()]
    if missing:
        raise Vl4adError(f"objects: the folder {missing[0]} does not exist")
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
