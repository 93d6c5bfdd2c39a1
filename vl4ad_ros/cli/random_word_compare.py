"""`vl4ad random-word compare`: the methods on road data sets with one bundle, over several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from vl4ad_ros.cli.options import Count, Group, Threads, print_error, progress_bar
from vl4ad_ros.cli.random_word import GapOptions, TextOptions, need
from vl4ad_ros.io.files import check_writable, write_json, write_text
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector


def compare(
    settings: str = "road",
    /,
    *,
    text: Annotated[TextOptions, Group] = TextOptions(),
    bundle: str,
    prompt_set: str | None = None,
    data: list[str],
    seeds: Count = 5,
    stride: Count = 1,
    threads: Threads = 0,
    output: Path,
    gap: Annotated[GapOptions, Group] = GapOptions(),
) -> None:
    """Compare the methods on road data sets with one bundle, over several seeds.

    Args:
        settings: Settings: name or YAML file.
        text: What the networks are trained on.
        bundle: The bundle.
        prompt_set: Prompt set of VL4AD (default: the bundle's).
        data: Data sets, LAYOUT=DIR, e.g. road_anomaly=DIR camvid_ood=DIR.
        seeds: Number of seeds.
        stride: Take every n-th frame of each data set.
        threads: CPU threads; 0 = all cores.
        output: Folder for compare.json and compare.md.
        gap: What the gap is measured on.
    """
    need("torch", "text", "compare")
    need("onnx", "export", "compare")
    from vl4ad_ros.evaluation.datasets import DatasetSource
    from vl4ad_ros.evaluation.layouts import layout
    from vl4ad_ros.random_word import compare as comparison
    from vl4ad_ros.random_word.embed import cache_folder
    from vl4ad_ros.random_word.gap import mean_visual_embedding
    from vl4ad_ros.random_word.split_engine import SplitEngine
    from vl4ad_ros.training.ablation import table

    outputs = [output / name for name in ("compare.md", "compare.json")]
    for path in outputs:
        check_writable(path)
    folders = {name: Path(folder) for name, _, folder in (item.partition("=") for item in data)}
    sources = {name: DatasetSource(folder, layout(name)) for name, folder in folders.items()}
    loaded = ModelBundle.load(bundle)
    detector = Detector(loaded, SplitEngine(loaded, threads))
    chosen = text.settings(settings, loaded.card.text_encoder)
    images = gap.read()
    axes = np.eye(loaded.card.embedding_dim, dtype=np.float32)
    mean = mean_visual_embedding(detector, images, axes, progress_bar("measuring", "run")) if images else None
    variants = comparison.make_variants(
        chosen, text.encoder(chosen), list(range(seeds)), mean, gap.reference, cache_folder(text.cache, text.weights),
        print_error, progress_bar("embedding", "prompt"),
    )  # fmt: skip
    rows = comparison.compare(detector, folders, variants, prompt_set, stride, print_error)
    text_table = table(rows) + "\n"
    print(text_table)
    outputs[1].unlink(missing_ok=True)  # where it is, the table belongs to it
    write_text(outputs[0], text_table)
    record = {
        "bundle": {"name": loaded.card.name, "onnx_sha256": loaded.onnx_sha256},
        "engine": detector.engine.info.as_dict(),
        "prompt_set": prompt_set or loaded.card.default_prompt_set,
        "settings": chosen.model_dump(mode="json"),
        "seeds": list(range(seeds)),
        "stride": stride,
        "gap": {"images": gap.most_images, "reference": gap.reference} if gap.images else None,
        "data": {name: source.description for name, source in sources.items()},
        "rows": comparison.plain(variants, rows),
    }
    write_json(outputs[1], record)
