"""What a car would have seen: latency, drops, rates and stale results of a recorded live run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vl4ad_ros.evaluation.groups import State
from vl4ad_ros.evaluation.result import percentiles
from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.errors import Vl4adError

NS = 1_000_000_000
# A result older than this is stale when it arrives; the detector's own diagnostics warn from there on.
STALE_MS = 200.0
# What results say of a detector, and the names on `~/prompt_set` that differ.
DESCRIPTION = (
    "bundle", "engine", "prompt_set", "prompt_set_version", "prompt_set_source_sha256", "scoring", "method",
    "random_word", "temperature", "threshold", "threshold_from",
)  # fmt: skip
PUBLISHED_AS = {"prompt_set": "name", "prompt_set_version": "version", "prompt_set_source_sha256": "sha256"}


def read_sent(path: Path) -> dict[int, int]:
    """Read the player's log: stamp -> when the image was sent, nanoseconds since 1970 (`vl4ad replay --log`)."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {int(line["stamp_ns"]): int(line["sent_ns"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Vl4adError(f"{path}: not a log of 'vl4ad replay --log' ({error}).") from error


def read_recorded(path: Path) -> tuple[dict[str, dict[int, int]], list[State]]:
    """Read when the detector's outputs arrived, and what the detector published of itself, from the recorder's bag.

    Output (`uncertainty`, `anomaly_mask`) -> stamp -> first arrival, nanoseconds since 1970; and the states of the
    detector that made the maps, at least one, each with the keys of `DetectorPredictor.describe` and its `threshold`.
    """
    arrived: dict[str, dict[int, int]] = {}
    told: list[dict[str, Any]] = []
    node, maps = "", ""
    with BagReader(path) as bag:
        for topic, kind in bag.topics().items():
            output = topic.rsplit("/", 1)[-1]
            if output in ("uncertainty", "anomaly_mask") and kind == "sensor_msgs/msg/Image":
                times = arrived.setdefault(output, {})
                maps = topic.removesuffix("anomaly_mask").removesuffix("uncertainty")
                for image in bag.images(topic):
                    times.setdefault(image.stamp_ns, image.log_ns)
            elif output == "prompt_set":
                node = topic.removesuffix("prompt_set")
                told += [json.loads(bag.deserialize(topic, data).data) for _, _, data in bag.raw([topic])]
    if not arrived.get("uncertainty"):
        raise Vl4adError(f"{path} holds no uncertainty maps: the detector published none, or none was recorded.")
    return arrived, _states(told, maps.removeprefix(node).strip("/"))


def _states(told: Sequence[dict[str, Any]], camera: str) -> list[State]:
    """Return the states that a detector told of on `~/prompt_set`, as far as it made results of a camera with them."""
    known: dict[int, dict[str, Any]] = {0: {}}
    since: dict[int, int] = {}
    for message in told:
        for entry in (*message.get("previous", ()), message):
            swap, stamp = entry.get("swap", 0), entry.get("since", {}).get(camera)
            # Of those before the recording, no more than this is told.
            known.setdefault(swap, {"prompt_set": entry["name"], "prompt_set_version": entry["version"]})
            if stamp is not None:
                since[swap] = stamp["sec"] * NS + stamp["nanosec"]
        known[message.get("swap", 0)] = {name: message.get(PUBLISHED_AS.get(name, name)) for name in DESCRIPTION}
    if not since:
        return [State(0, list(known.values())[-1])]
    states: list[State] = []
    for swap in sorted(since, key=lambda swap: since[swap]):
        if not states or states[-1].about != known[swap]:
            states.append(State(since[swap], known[swap]))
    return states


def latencies(sent: Mapping[int, int], arrived: Mapping[str, Mapping[int, int]]) -> dict[int, dict[str, float]]:
    """Return stamp -> output -> milliseconds from sending the image to its arrival; `total` is that of the map."""
    table: dict[int, dict[str, float]] = {}
    for output, times in arrived.items():
        for stamp in times.keys() & sent.keys():
            delay_ns = times[stamp] - sent[stamp]
            if delay_ns < 0:
                raise Vl4adError(
                    "The recording and the log of what was sent are of two runs, or the clock was set back: the "
                    f"{output} of the stamp {stamp} ns came {-delay_ns / 1e9:.3f} s before its image was sent."
                )
            row = table.setdefault(stamp, {})
            row[output] = delay_ns / 1e6
            if output == "uncertainty":
                row["total"] = row[output]
    return table


def live_statistics(sent: Mapping[int, int], arrived: Mapping[str, Mapping[int, int]]) -> dict[str, Any]:
    """Return the figures of a live run.

    `sent`, `received` (uncertainty maps), `dropped` (images without a map), `stale` (maps older than 200 ms when they
    came), `foreign` (maps of images that the log lacks), `rate_in_hz`, `rate_hz` (maps per second), `latency_ms`.
    """
    maps = arrived["uncertainty"]
    rows = latencies(sent, arrived)
    total = [row["total"] for row in rows.values() if "total" in row]
    return {
        "sent": len(sent),
        "received": len(maps),
        "dropped": len(sent.keys() - maps.keys()),
        "foreign": len(maps.keys() - sent.keys()),
        "stale": sum(value > STALE_MS for value in total),
        "stale_limit_ms": STALE_MS,
        "rate_in_hz": _rate(list(sent.values())),
        "rate_hz": _rate(list(maps.values())),
        "latency_ms": percentiles(total),
    }


def _rate(moments: list[int]) -> float | None:
    """Return events per second between the first and the last."""
    if len(moments) < 2 or max(moments) == min(moments):
        return None
    return (len(moments) - 1) * NS / (max(moments) - min(moments))
