"""`vl4ad prompts`: list, inspect and compile prompt sets."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.cli.options import Count, progress_bar
from vl4ad_ros.cli.prompt_thresholds import measured
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import read_npy, sha256_file
from vl4ad_ros.io.resources import bundle_dirs, prompt_yaml, prompt_yamls
from vl4ad_ros.prompts import encoders
from vl4ad_ros.prompts.compile import assemble, average_templates, compile_prompt_set, concept_texts, read_source
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.runtime.bundle import PROMPTS, ModelBundle, replacing
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet, load_compiled


def list_sets(*, bundle: str | None = None) -> None:
    """List the shipped prompt sets, and those compiled for each bundle.

    Args:
        bundle: Only this bundle: name or folder.
    """
    if bundle is None:
        print("shipped")
        for name, path in prompt_yamls().items():
            print(f"  {name:<26} {load_prompt_set(path).description}")
    for name in [bundle] if bundle else sorted(bundle_dirs()):
        loaded = ModelBundle.load(name, verify=False)
        print(f"compiled for bundle {loaded.card.name} ({loaded.card.text_encoder})")
        for entry in loaded.prompt_set_names():
            compiled = loaded.load_prompt_set(entry)
            default = "  (default)" if entry == loaded.card.default_prompt_set else ""
            print(f"  {entry:<26} {compiled.version}  {compiled.description}{default}")


def inspect(set: str, /, *, bundle: str | None = None) -> None:
    """Show a prompt set: YAML or compiled.

    Args:
        set: A YAML or .safetensors file, or the name of a shipped set.
        bundle: Take the set compiled for this bundle: name or folder.
    """
    if bundle is not None:
        _show_compiled(ModelBundle.load(bundle, verify=False).load_prompt_set(set))
    elif Path(set).suffix == ".safetensors":
        _show_compiled(load_compiled(set))
    else:
        path = prompt_yaml(set)
        _show_yaml(load_prompt_set(path), path)


def _show_yaml(prompts: PromptSet, path: Path) -> None:
    members = prompts.members()
    print(f"{prompts.name}: {prompts.description}\nfile         {path}\nsha256       {sha256_file(path)}")
    print(f"templates    {len(prompts.template_texts())}\ntemperature  {prompts.temperature or 'the model’s own'}")
    print(f"{len(members)} in-distribution classes")
    for name, concepts in prompts.columns().items():
        merged = f" (merged: {', '.join(members[name])})" if members[name] != [name] else ""
        print(f"  {name:<16} {', '.join(concepts)}{merged}")
    print(f"{len(prompts.ood)} out-of-distribution concepts\n  {', '.join(prompts.ood) or '-'}")


def _show_compiled(compiled: CompiledPromptSet) -> None:
    print(
        f"{compiled.name}: {compiled.description}\nversion      {compiled.version}\nencoder      {compiled.encoder_id}"
    )
    print(f"embeddings   {len(compiled.concepts)} of dimension {compiled.dim}\nYAML sha256  {compiled.source_sha256}")
    if compiled.file_sha256 is not None:
        print(f"made from    weights or embeddings with sha256 {compiled.file_sha256}")
    for key, value in (compiled.thresholds or {}).items():
        print(f"threshold    {value:.3f} ({key})")
    print(f"temperature  {compiled.temperature or 'the model’s own'}\n{compiled.num_id} in-distribution classes")
    for index, (name, members) in enumerate(zip(compiled.columns, compiled.members, strict=True)):
        if index == compiled.num_id:
            print(f"{compiled.num_ood} out-of-distribution concepts")
        texts = [compiled.concepts[row] for row, column in enumerate(compiled.concept_column) if column == index]
        merged = f" (merged: {', '.join(members)})" if members != (name,) else ""
        print(f"  {name:<16} {', '.join(texts)}{merged}")


def compile_set(
    set: str,
    /,
    *,
    bundle: str | None = None,
    encoder: str | None = None,
    weights: Path | None = None,
    from_npy: Path | None = None,
    templates: Literal["plain", "road", "vild"] | None = None,
    out: Path | None = None,
    force: bool = False,
    frames: Path | None = None,
    most_frames: Count = 100,
) -> None:
    """Embed a prompt set for a bundle, or for a text encoder.

    Args:
        set: A YAML file, or the name of a shipped set.
        bundle: Compile for this bundle (name or folder) and put the result into it.
        encoder: Text encoder, e.g. minilm:all-MiniLM-L6-v2 or open_clip:MODEL/PRETRAINED.
        weights: Local weights of an open_clip encoder.
        from_npy: Embeddings made elsewhere: float [P, D] or [P, templates, D], rows in the order of the set's concepts.
        templates: Sentences around each concept, in place of the set's own.
        out: The .safetensors file to write; needed without --bundle.
        force: Compile in any case, replacing what is there.
        frames: Folder of pictures of roads without anomalies: the set gets thresholds with which it alarms on them as
            often as the bundle's default set.
        most_frames: Pictures used, spread evenly over the folder.
    """
    if (bundle is None) == (encoder is None):
        raise Vl4adError("Name either --bundle or --encoder.")
    if frames is not None and bundle is None:
        raise Vl4adError("--frames needs --bundle: thresholds belong to a network.")
    path = prompt_yaml(set)
    prompts, source_sha256 = read_source(path, templates)
    for option, value in (("--templates", templates), ("--weights", weights)):
        if value is not None and from_npy is not None:
            raise Vl4adError(f"{option} and --from-npy exclude each other: the file's rows are embedded already.")
    given = from_npy or weights
    file_sha256 = None if given is None else sha256_file(given)
    own = f"{PROMPTS}/{prompts.name}.safetensors"
    loaded = None if bundle is None else ModelBundle.load(bundle, but=own)
    if out is None:
        if loaded is None:
            raise Vl4adError("Without --bundle, --out must name the .safetensors file to write.")
        out = loaded.path / own
    if out.suffix != ".safetensors":
        raise Vl4adError(f"--out must be a .safetensors file, got {out}.")
    encoder_id = str(encoder) if loaded is None else loaded.card.text_encoder
    inside = loaded is not None and out.resolve().parent == (loaded.path / PROMPTS).resolve()
    entered = replacing(loaded, out) if loaded is not None and inside else nullcontext()
    if out.is_file() and not force:
        compiled = _check_unchanged(out, source_sha256, encoder_id, file_sha256)
        if frames is None:
            if loaded is not None and inside and loaded.card.sha256.get(f"{PROMPTS}/{out.name}") != sha256_file(out):
                with entered:  # A kill had come between the set and the card.
                    return
            return
    elif from_npy is None:
        made = encoders.create_encoder(encoder_id, weights)
        compiled = compile_prompt_set(prompts, made, source_sha256, progress_bar("embedding", "text"))
    else:
        compiled = assemble(prompts, _read_embeddings(prompts, from_npy), encoder_id, source_sha256)
    compiled = replace(compiled, file_sha256=file_sha256)
    if loaded is not None:
        _check_fit(compiled, loaded)
    if loaded is not None and frames is not None:
        (compiled,) = measured(loaded, [compiled], frames, most_frames)
    with entered:
        compiled.save(out)
    print(
        f"{out}: '{compiled.name}' {compiled.version}, {compiled.num_id} classes, {compiled.num_ood} "
        f"out-of-distribution, {len(compiled.concepts)} concepts, {compiled.encoder_id}"
    )


def _check_unchanged(out: Path, source_sha256: str, encoder_id: str, file_sha256: str | None) -> CompiledPromptSet:
    """Say that a compiled set is up to date, and return it; refuse to replace another one."""
    there = load_compiled(out)
    compared = (
        ("YAML or templates", there.source_sha256, source_sha256),
        ("text encoder", there.encoder_id, encoder_id),
        ("weights or embeddings", there.file_sha256, file_sha256),
    )
    others = [what for what, old, new in compared if old != new]
    if others:
        raise Vl4adError(
            f"{out} holds another prompt set ('{there.name}' {there.version}, {there.encoder_id}), made from other "
            f"{', other '.join(others)}; replace it with --force."
        )
    print(f"{out} is up to date (version {there.version})")
    return there


def _read_embeddings(prompts: PromptSet, path: Path) -> NDArray[np.float32]:
    """Return unit rows [P, D] of an .npy file [P, D] or [P, templates, D]."""
    rows = read_npy(path)
    concepts = concept_texts(prompts)
    count = len(concepts)
    if rows.ndim not in (2, 3) or len(rows) != count or 0 in rows.shape or not np.issubdtype(rows.dtype, np.floating):
        raise Vl4adError(
            f"{path}: expected floats [{count}, D] or [{count}, templates, D], one row per concept of "
            f"'{prompts.name}', none of the sizes 0, got {rows.dtype} {rows.shape}."
        )
    with np.errstate(over="ignore"):  # what is too large is named below
        rows = np.asarray(rows if rows.ndim == 3 else rows[:, None], dtype=np.float32)
    return average_templates(rows, concepts, str(path))


def _check_fit(compiled: CompiledPromptSet, bundle: ModelBundle) -> None:
    """Refuse a set that the bundle's graph cannot take, before it is written into the bundle."""
    if compiled.dim != bundle.card.embedding_dim:
        raise Vl4adError(
            f"The embeddings have dimension {compiled.dim}, bundle '{bundle.card.name}' needs "
            f"{bundle.card.embedding_dim}."
        )
    bundle.card.pack(compiled)
