"""Rows of figures as a Markdown table, ratios to the baseline measured in the same run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vl4ad_ros.cli.bench_gpu import BASELINE


def gpu_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the GPU bench's rows as Markdown; the speed-up is against eager PyTorch at the same size and batch."""
    lines = [
        "| form | size | batch | median ms | p95 ms | p99 ms | frames/s | x eager | GPU MiB | ready after s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = {_key(r): r["latency"]["median_ms"] for r in rows if r["form"] == BASELINE and "latency" in r}
    notes = []
    for row in rows:
        place = f"| {row['form']} | {row['size'][0]}x{row['size'][1]} | {row['batch']} |"
        if "latency" not in row:
            lines.append(f"{place} - | - | - | - | - | - | - |")
            kind = "skipped" if "skipped" in row else "failed"
            note = f"{row['form']} {kind}: {row.get('skipped') or row.get('failed')}"
            if note not in notes:
                notes.append(note)
            continue
        latency = row["latency"]
        ratio = f"{base[_key(row)] / latency['median_ms']:.2f}" if _key(row) in base else "-"
        memory = "-" if row["gpu_mib"] is None else str(row["gpu_mib"])
        lines.append(
            f"{place} {latency['median_ms']:.2f} | {latency['p95_ms']:.2f} | {latency['p99_ms']:.2f} | "
            f"{row['frames_per_s']:.1f} | {ratio} | {memory} | {row['first_frame_s']:.1f} |"
        )
    return "\n".join([*lines, *(f"\n{note}" for note in notes)])


def _key(row: dict[str, Any]) -> tuple[int, int, int, str]:
    return row["size"][0], row["size"][1], row["batch"], row["precision"]


def join(paths: Sequence[Path]) -> str:
    """Return one table of the JSON files of several calls of `vl4ad bench gpu --out`, ordered by size and batch."""
    rows = [row for path in paths for row in json.loads(path.read_text(encoding="utf-8"))["figures"]["rows"]]
    return gpu_table(sorted(rows, key=_key))


if __name__ == "__main__":
    sys.stdout.write(join([Path(name) for name in sys.argv[1:]]) + "\n")
