"""Parts of an evaluation on a Ray cluster (the optional extra `ray`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl4ad_ros.evaluation.run import Part, evaluate_on_one_thread
from vl4ad_ros.evaluation.tally import Tally
from vl4ad_ros.io.errors import Vl4adError


def on_cluster(waiting: dict[Path, Part], address: str) -> Iterator[tuple[Path, Tally]]:
    """Evaluate parts on the workers of a cluster, one CPU each; yield them as they finish.

    The data and the bundle must lie at the same path on every node.

    Args:
        waiting: File of each part -> the part.
        address: `auto`, `host:port`, `ray://host:port`, or `local` to start a cluster on this machine.

    Raises:
        Vl4adError: If Ray is missing, the cluster cannot be reached, or a part failed.
    """
    try:
        import ray
    except ImportError as error:
        raise Vl4adError("Ray is not installed; get it with: pip install 'vl4ad_ros[ray]'.") from error
    mine = not ray.is_initialized()
    if mine:
        try:
            ray.init(None if address == "local" else address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise Vl4adError(f"The Ray cluster at '{address}' cannot be reached ({error}).") from error
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=1)(evaluate_on_one_thread)
        futures = {remote.remote(part): path for path, part in waiting.items()}
        while futures:
            (ready, *_), _ = ray.wait(list(futures), num_returns=1)
            try:
                tally = ray.get(ready)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", error)
                raise (
                    cause if isinstance(cause, Vl4adError) else Vl4adError(f"A Ray worker failed: {cause}.")
                ) from error
            yield futures.pop(ready), tally
    finally:
        if mine:
            ray.shutdown()
