"""`vl4ad prompts thresholds`: the mask's thresholds of a bundle's prompt sets, from normal frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from vl4ad_ros.cli.options import Count
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import PROMPTS, ModelBundle, replacing
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet


def thresholds(sets: list[str] | None = None, /, *, bundle: str, frames: Path, most_frames: Count = 100) -> None:
    """Choose the mask's thresholds of a bundle's prompt sets so that each alarms as often as the default set.

    Args:
        sets: Names of prompt sets of the bundle; all but its default one where none is named.
        bundle: Bundle (name or folder) whose prompt sets take the thresholds.
        frames: Folder of pictures of roads without anomalies.
        most_frames: Pictures used, spread evenly over the folder.
    """
    loaded = ModelBundle.load(bundle)
    default = loaded.card.default_prompt_set
    if default in (sets or ()):
        raise Vl4adError(f"'{default}' is the default set of bundle '{loaded.card.name}': the card has its thresholds.")
    names = sets or [name for name in loaded.prompt_set_names() if name != default]
    found = measured(loaded, [loaded.load_prompt_set(name) for name in names], frames, most_frames)
    for name, prompt_set in zip(names, found, strict=True):
        path = loaded.find_file(PROMPTS, name)
        with replacing(ModelBundle.load(loaded.path, verify=False), path):
            prompt_set.save(path)
        print(f"{name}: {', '.join(f'{key} {value:.3f}' for key, value in (prompt_set.thresholds or {}).items())}")


def measured(
    bundle: ModelBundle, prompt_sets: Sequence[CompiledPromptSet], folder: Path, most: int
) -> list[CompiledPromptSet]:
    """Return prompt sets with the thresholds that the pictures of a folder give them (`match_alarms`)."""
    from vl4ad_ros.evaluation.prompt_thresholds import match_alarms
    from vl4ad_ros.random_word.gap import read_images

    frames = tqdm(read_images(folder, most), unit="frame", desc="counting alarms")
    detector = Detector.open(bundle.path)
    try:
        return match_alarms(detector, prompt_sets, frames)
    finally:
        detector.close()
