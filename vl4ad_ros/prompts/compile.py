"""Compiling a prompt set: from concepts to embeddings of one text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file, sha256_text
from vl4ad_ros.prompts.encoders import Progress, TextEncoder, encode_batches
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet


def embed_concepts(
    concepts: Sequence[str],
    templates: Sequence[str],
    encoder: TextEncoder,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embed concepts, averaged over templates (texts with one `{}`): float32 [P, D], rows of unit length.

    Each text is L2-normalised, the templates of a concept are averaged, and the mean is normalised again (FC-CLIP's
    recipe, docs/prompts.md). Few texts per call (`batch_size`) show progress, (texts done, texts in all), with a large
    text tower.
    """
    texts = [template.format(concept) for concept in concepts for template in templates]
    rows = encode_batches(encoder, texts, batch_size, progress)
    embeddings = rows.reshape(len(concepts), len(templates), encoder.dim)
    return average_templates(embeddings, concepts, f"Text encoder '{encoder.id}'")


def average_templates(embeddings: NDArray[np.float32], concepts: Sequence[str], source: str) -> NDArray[np.float32]:
    """Average template embeddings of any length, [P, templates, D], to unit rows [P, D]."""
    with np.errstate(over="ignore"):  # refused below
        norms = np.linalg.norm(embeddings, axis=2, keepdims=True)
    unusable = (~np.isfinite(norms) | (norms == 0)).any(axis=(1, 2))
    if unusable.any():
        raise Vl4adError(f"{source}: an embedding of '{concepts[int(unusable.argmax())]}' is zero or not finite.")
    mean = (embeddings / norms).mean(axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    if (length < 1e-6).any():
        concept = concepts[int(length.argmin())]
        raise Vl4adError(f"{source}: the templates' embeddings of '{concept}' cancel each other out.")
    return np.ascontiguousarray(mean / length, dtype=np.float32)


def assemble(
    prompt_set: PromptSet, embeddings: NDArray[np.float32], encoder_id: str, source_sha256: str
) -> CompiledPromptSet:
    """Join a prompt set and the embeddings of its concepts (rows as `concept_texts` lists them)."""
    columns = prompt_set.columns()
    names = [*columns, *prompt_set.ood]
    column_of = [index for index, concepts in enumerate(columns.values()) for _ in concepts]
    column_of += range(len(columns), len(names))
    members = [tuple(classes) for classes in prompt_set.members().values()] + [(name,) for name in prompt_set.ood]
    return CompiledPromptSet(
        name=prompt_set.name,
        description=prompt_set.description,
        columns=tuple(names),
        members=tuple(members),
        concepts=tuple(concept_texts(prompt_set)),
        concept_column=np.asarray(column_of, dtype=np.int32),
        embeddings=embeddings,
        num_id=len(columns),
        temperature=prompt_set.temperature,
        encoder_id=encoder_id,
        source_sha256=source_sha256,
        templates=prompt_set.template_texts(),
    )


def concept_texts(prompt_set: PromptSet) -> list[str]:
    """Return the P concepts in the order of the compiled set: column by column, then the OOD concepts."""
    return [concept for concepts in prompt_set.columns().values() for concept in concepts] + prompt_set.ood


def compile_prompt_set(
    prompt_set: PromptSet,
    encoder: TextEncoder,
    source_sha256: str | None = None,
    progress: Progress | None = None,
) -> CompiledPromptSet:
    """Embed a prompt set; `source_sha256` is that of its YAML file, by default that of its JSON form."""
    embeddings = embed_concepts(concept_texts(prompt_set), prompt_set.template_texts(), encoder, progress=progress)
    return assemble(prompt_set, embeddings, encoder.id, source_sha256 or sha256_text(prompt_set.model_dump_json()))


def read_source(path: Path, templates: str | None = None) -> tuple[PromptSet, str]:
    """Read a prompt set's YAML file, with other templates (their name) in place of its own; return it and its hash."""
    prompts, sha256 = load_prompt_set(path), sha256_file(path)
    if templates is None:
        return prompts, sha256
    replaced = prompts.model_copy(update={"templates": templates})
    return replaced, sha256_text(f"{sha256} --templates {templates}")


def compile_file(
    path: Path, encoder: TextEncoder, progress: Progress | None = None, templates: str | None = None
) -> CompiledPromptSet:
    """Read, check and embed a prompt set's YAML file; `templates` as of `read_source`."""
    prompts, sha256 = read_source(path, templates)
    return compile_prompt_set(prompts, encoder, sha256, progress)
