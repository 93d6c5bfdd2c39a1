"""`vl4ad prompts`: list, inspect and compile prompt sets."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.schema import TEMPLATES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vl4ad_ros.prompts.schema import PromptSet
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.prompt_set import CompiledPromptSet

HELP = "list, inspect and compile prompt sets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("list", help="list the shipped prompt sets, and those compiled for each bundle")
    show.add_argument("--bundle", help="only this bundle: name or folder")
    inspect = actions.add_parser("inspect", help="show a prompt set: YAML or compiled")
    inspect.add_argument("set", help="a YAML or .safetensors file, or the name of a shipped set")
    inspect.add_argument("--bundle", help="take the set compiled for this bundle: name or folder")
    make = actions.add_parser("compile", help="embed a prompt set for a bundle, or for a text encoder")
    make.add_argument("set", help="a YAML file, or the name of a shipped set")
    target = make.add_mutually_exclusive_group(required=True)
    target.add_argument("--bundle", help="compile for this bundle (name or folder) and put the result into it")
    target.add_argument("--encoder", help="text encoder, e.g. minilm:all-MiniLM-L6-v2 or open_clip:MODEL/PRETRAINED")
    make.add_argument("--weights", type=Path, help="local weights of an open_clip encoder")
    make.add_argument(
        "--from-npy",
        type=Path,
        help="embeddings made elsewhere: float [P, D] or [P, templates, D], rows in the order of the set's concepts",
    )
    make.add_argument(
        "--templates", choices=sorted(TEMPLATES), help="sentences around each concept, in place of the set's own"
    )
    make.add_argument("--out", type=Path, help="the .safetensors file to write; needed without --bundle")
    make.add_argument("--force", action="store_true", help="compile in any case, replacing what is there")


def run(args: argparse.Namespace) -> int:
    """Do what is asked for."""
    if args.action == "list":
        return _list(args)
    return _inspect(args) if args.action == "inspect" else _compile(args)


def _list(args: argparse.Namespace) -> int:
    from vl4ad_ros.io.resources import bundle_dirs, prompt_yamls
    from vl4ad_ros.prompts.schema import load_prompt_set
    from vl4ad_ros.runtime.bundle import ModelBundle

    if args.bundle is None:
        print("shipped")
        for name, path in prompt_yamls().items():
            print(f"  {name:<26} {load_prompt_set(path).description}")
    for name in [args.bundle] if args.bundle else sorted(bundle_dirs()):
        bundle = ModelBundle.load(name, verify=False)
        print(f"compiled for bundle {bundle.card.name} ({bundle.card.text_encoder})")
        for entry in bundle.prompt_set_names():
            compiled = bundle.load_prompt_set(entry)
            default = "  (default)" if entry == bundle.card.default_prompt_set else ""
            print(f"  {entry:<26} {compiled.version}  {compiled.description}{default}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from vl4ad_ros.io.resources import prompt_yaml
    from vl4ad_ros.prompts.schema import load_prompt_set
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.prompt_set import load_compiled

    if args.bundle is not None:
        _show_compiled(ModelBundle.load(args.bundle, verify=False).load_prompt_set(args.set))
    elif Path(args.set).suffix == ".safetensors":
        _show_compiled(load_compiled(args.set))
    else:
        path = prompt_yaml(args.set)
        _show_yaml(load_prompt_set(path), path)
    return 0


def _show_yaml(prompts: PromptSet, path: Path) -> None:
    from vl4ad_ros.io.files import sha256_file

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
    print(f"temperature  {compiled.temperature or 'the model’s own'}\n{compiled.num_id} in-distribution classes")
    for index, (name, members) in enumerate(zip(compiled.columns, compiled.members, strict=True)):
        if index == compiled.num_id:
            print(f"{compiled.num_ood} out-of-distribution concepts")
        texts = [compiled.concepts[row] for row, column in enumerate(compiled.concept_column) if column == index]
        merged = f" (merged: {', '.join(members)})" if members != (name,) else ""
        print(f"  {name:<16} {', '.join(texts)}{merged}")


def _compile(args: argparse.Namespace) -> int:
    from vl4ad_ros.io.files import sha256_file, sha256_text
    from vl4ad_ros.io.resources import prompt_yaml
    from vl4ad_ros.prompts.schema import load_prompt_set
    from vl4ad_ros.runtime.bundle import PROMPTS, ModelBundle, write_card
    from vl4ad_ros.runtime.prompt_set import load_compiled

    path = prompt_yaml(args.set)
    prompts = load_prompt_set(path)
    source_sha256 = sha256_file(path)
    for option, value in (("--templates", args.templates), ("--weights", args.weights)):
        if value is not None and args.from_npy is not None:
            raise Vl4adError(f"{option} and --from-npy exclude each other: the file's rows are embedded already.")
    file_sha256 = _hash(args.from_npy or args.weights)
    if args.templates is not None:
        prompts = prompts.model_copy(update={"templates": args.templates})
        source_sha256 = sha256_text(f"{source_sha256} --templates {args.templates}")
    bundle = None if args.bundle is None else ModelBundle.load(args.bundle)
    out: Path | None = args.out
    if out is None:
        if bundle is None:
            raise Vl4adError("Without --bundle, --out must name the .safetensors file to write.")
        out = bundle.path / PROMPTS / f"{prompts.name}.safetensors"
    if out.suffix != ".safetensors":
        raise Vl4adError(f"--out must be a .safetensors file, got {out}.")
    encoder_id = args.encoder if bundle is None else bundle.card.text_encoder
    if out.is_file() and not args.force:
        there = load_compiled(out)
        compared = (
            ("YAML or templates", there.source_sha256, source_sha256),
            ("text encoder", there.encoder_id, encoder_id),
            ("weights or embeddings", there.file_sha256, file_sha256),
        )
        others = [what for what, old, new in compared if old != new]
        if not others:
            print(f"{out} is up to date (version {there.version})")
            return 0
        raise Vl4adError(
            f"{out} holds another prompt set ('{there.name}' {there.version}, {there.encoder_id}), made from other "
            f"{', other '.join(others)}; replace it with --force."
        )
    compiled = replace(_embed(prompts, source_sha256, encoder_id, args), file_sha256=file_sha256)
    if bundle is not None:
        _check_fit(compiled, bundle)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        compiled.save(part)
        part.replace(out)
    except OSError as error:
        raise Vl4adError(f"{out}: cannot be written ({error}).") from error
    if bundle is not None and out.resolve().parent == (bundle.path / PROMPTS).resolve():
        write_card(bundle.path, bundle.card)
    print(
        f"{out}: '{compiled.name}' {compiled.version}, {compiled.num_id} classes, {compiled.num_ood} "
        f"out-of-distribution, {len(compiled.concepts)} concepts, {compiled.encoder_id}"
    )
    return 0


def _hash(path: Path | None) -> str | None:
    """Return the SHA-256 of a file that the user gave, if any."""
    from vl4ad_ros.io.files import sha256_file

    try:
        return None if path is None else sha256_file(path)
    except OSError as error:
        raise Vl4adError(f"{path}: cannot be read ({error}).") from error


def _embed(prompts: PromptSet, sha256: str, encoder_id: str, args: argparse.Namespace) -> CompiledPromptSet:
    from tqdm import tqdm

    from vl4ad_ros.prompts.compile import assemble, compile_prompt_set
    from vl4ad_ros.prompts.encoders import create_encoder

    if args.from_npy is not None:
        return assemble(prompts, _read_embeddings(prompts, args.from_npy), encoder_id, sha256)
    encoder = create_encoder(encoder_id, args.weights)
    with tqdm(unit="text", desc="embedding") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return compile_prompt_set(prompts, encoder, sha256, progress)


def _read_embeddings(prompts: PromptSet, path: Path) -> NDArray[np.float32]:
    """Return unit rows [P, D] of an .npy file [P, D] or [P, templates, D]."""
    import numpy as np

    from vl4ad_ros.io.files import read_npy
    from vl4ad_ros.prompts.compile import average_templates, concept_texts

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
