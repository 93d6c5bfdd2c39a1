"""`vl4ad random-word compare`: the methods on road data sets with one bundle, over several seeds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np

from vl4ad_ros.cli.options import Count, Group, Threads, print_error, progress_bar
from vl4ad_ros.cli.random_word import GapOptions, TextOptions, need
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_writable, write_json, write_text
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.random_word_files import install as put_in


def compare(
    settings: str = "road",
    /,
    *,
    text: Annotated[TextOptions, Group] = TextOptions(),
    bundle: str,
    prompt_set: str | None = None,
    data: list[str] | None = None,
    scenes: Path | None = None,
    data_root: Path | None = None,
    install: bool = False,
    seeds: Count = 6,
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
        scenes: The bundle's training configuration (config/train/*.yaml), for its generated validation scenes.
        data_root: Folder that the configuration's data paths start from (default: the file's).
        install: Put the network that is best on the validation scenes into the bundle, as its default.
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
    from vl4ad_ros.network.pixel_explainer import pixel_span
    from vl4ad_ros.random_word import compare as comparison
    from vl4ad_ros.random_word.embed import cache_folder
    from vl4ad_ros.random_word.gap import mean_visual_embedding
    from vl4ad_ros.random_word.split_engine import SplitEngine
    from vl4ad_ros.random_word.thresholds import scenes_of_run
    from vl4ad_ros.training.ablation import table

    if install and (scenes is None or seeds == 1):
        raise Vl4adError("--install needs --scenes CONFIG, on which the network is chosen, and more than one seed.")
    outputs = [output / name for name in ("compare.md", "compare.json")]
    for path in outputs:
        check_writable(path)
    folders = {name: Path(folder) for name, _, folder in (item.partition("=") for item in data or [])}
    sources = {name: DatasetSource(folder, layout(name)) for name, folder in folders.items()}
    loaded = ModelBundle.load(bundle)
    detector = Detector(loaded, SplitEngine(loaded, threads))
    chosen = text.settings(settings, loaded.card.text_encoder)
    images = gap.read()
    span = pixel_span(loaded)
    axes = np.eye(loaded.card.embedding_dim, dtype=np.float32) if span is None else span.T
    mean = mean_visual_embedding(detector, images, axes, progress_bar("measuring", "run")) if images else None
    variants = comparison.make_variants(
        chosen, text.encoder(chosen), list(range(seeds)), mean, gap.reference, cache_folder(text.cache, text.weights),
        print_error, progress_bar("embedding", "prompt"), span,
    )  # fmt: skip
    made = scenes_of_run(scenes, data_root) if scenes else []
    rows = comparison.compare(detector, folders, variants, prompt_set, stride, print_error, made)
    text_table = table(rows) + "\n"
    print(text_table)
    outputs[1].unlink(missing_ok=True)  # where it is, the table belongs to it
    write_text(outputs[0], text_table)
    record = {
        "bundle": {"name": loaded.card.name, "onnx_sha256": loaded.onnx_sha256},
        "engine": asdict(detector.engine.info),
        "prompt_set": prompt_set or loaded.card.default_prompt_set,
        "settings": chosen.model_dump(mode="json"),
        "seeds": list(range(seeds)),
        "stride": stride,
        "gap": {"images": gap.most_images, "reference": gap.reference} if gap.images else None,
        "data": {name: source.description for name, source in sources.items()},
        "rows": comparison.plain(variants, rows),
    }
    write_json(outputs[1], record)
    if install:
        network = comparison.best_network(variants, rows)
        put_in(loaded, network)
        print(f"installed: words {network.card['settings']['words']}, seed {network.card['settings']['seed']}")
