"""`vl4ad playground`: a browser page in which prompts are written while their map is seen."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from vl4ad_ros.cli.options import Model, Whole, print_error
from vl4ad_ros.cli.playground_session import PlaygroundSession, open_sources
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.settings import ModelSettings

Port = Annotated[Whole, Parameter(validator=Number(gte=1, lte=65535))]


def playground(
    inputs: list[Path] | None = None,
    /,
    *,
    topic: str | None = None,
    model: Model = ModelSettings(),
    prompt_set: str | None = None,
    compare: str | None = None,
    weights: Path | None = None,
    out: Path = Path("prompts"),
    node: str = "/detector",
    host: str = "127.0.0.1",
    port: Port = 8080,
    open: Annotated[bool, Parameter(negative="--no-open")] = True,
) -> None:
    """Write prompt sets in a browser page on this machine, and see the map of each change.

    Args:
        inputs: Pictures, videos, folders of them, and bags; none: the sample drive.
        topic: Image topic of the bags; not needed where there is only one.
        model: What runs.
        prompt_set: The set to begin with: a YAML file or the name of a shipped one; by default the bundle's.
        compare: A second one, for the right half.
        weights: Local weights of an open_clip text encoder.
        out: Folder for the sets that you save.
        node: The running node that sets are sent to.
        host: Address to listen on; others than 127.0.0.1 let other machines in, without a password.
        port: Port of the page.
        open: Open the page in the browser.
    """
    try:
        from vl4ad_ros.cli.playground_page import serve
    except ImportError as error:
        raise Vl4adError(f"The playground is not installed ({error}); pip install 'vl4ad_ros[playground]'.") from error
    _check_free(host, port)
    sources = open_sources(inputs or [], topic)
    detector = Detector.open(**model.model_dump())
    try:
        card = detector.bundle.card
        first = prompt_yaml(prompt_set or card.default_prompt_set).read_text(encoding="utf-8")
        second = prompt_yaml(compare).read_text(encoding="utf-8") if compare else first
        print_error(f"loading the text encoder {card.text_encoder} ...")
        session = PlaygroundSession(detector, create_encoder(card.text_encoder, weights), sources, (first, second), out)
        session.compare = compare is not None
        serve(session, node, host, port, open)
    finally:
        detector.close()


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise Vl4adError(
            f"Port {port} of {host} cannot be used ({error.strerror or error}); try another --port."
        ) from error
