"""Checking a TensorRT engine against ONNX Runtime on this machine, and noting the error on the engine's card."""

from __future__ import annotations

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import Engine
from vl4ad_ros.runtime.engine_card import EngineCard, engine_path, load_engine_card
from vl4ad_ros.runtime.graph_compare import TOLERANCES, compare, every_setting, noise_batches
from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine


def verify_engine(bundle: ModelBundle, engine: Engine, library: str) -> EngineCard:
    """Run an engine and ONNX Runtime (CPU) on the same inputs; write the difference to the engine's card.

    Args:
        bundle: The bundle.
        engine: Its engine, as loaded.
        library: `tensorrt` or `tensorrt_rtx`.

    Returns:
        The card as written.

    Raises:
        Vl4adError: If the published maps differ by more than the precision allows; the card carries the error then,
            too.
    """
    card = load_engine_card(bundle, library)
    batch = min(2, card.image.max_batch)
    images = [b for b in noise_batches(bundle.card.input, batch) if card.image.accepts(*b.shape[:3])]
    reference = OnnxRuntimeEngine(bundle)
    try:
        settings = every_setting(bundle.load_prompt_set(), bundle.card)
        check = compare(reference.infer, engine.infer, settings, images)
        against = reference.info.library
    finally:
        reference.close()
    checked = card.model_copy(update={"check": {"against": f"{against}, CPU, the same graph", **check}})
    checked.write(engine_path(bundle, library))
    tolerance = TOLERANCES.get(bundle.card.precision, TOLERANCES["float32"])
    if not check["max_abs_error"] <= tolerance:
        raise Vl4adError(
            f"The {library} engine of '{bundle.card.name}' is wrong: its published map of '{check['worst']}' differs "
            f"from ONNX Runtime's by {check['max_abs_error']:.2g} (at most {tolerance:.2g} is accepted)."
        )
    return checked
