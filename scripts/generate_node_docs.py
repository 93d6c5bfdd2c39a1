"""Write the topic and parameter tables into docs/reference.md from the node's declarations.

python scripts/generate_node_docs.py          write them
python scripts/generate_node_docs.py --check  only say whether they are up to date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vl4ad_ros.nodes.health import STAGES  # noqa: E402
from vl4ad_ros.nodes.topics import TOPICS, Topic  # noqa: E402
from vl4ad_ros.runtime.parameters import Parameter  # noqa: E402 - needs the path
from vl4ad_ros.runtime.settings import OVERLAY_PARAMETERS, PARAMETERS  # noqa: E402

PAGES = ("docs/reference.md",)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"'{item}'" for item in value) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _parameter_row(parameter: Parameter) -> list[str]:
    limits = ""
    if parameter.low is not None and parameter.high is not None:
        limits = f"{parameter.low:g} to {parameter.high:g}"
    if parameter.choices:
        limits = ", ".join(parameter.choices)
    when = "live" if parameter.live else "static"
    default = f"`{_shown(parameter.default)}`"
    return [f"`{parameter.name}`", parameter.type_name, default, limits, when, parameter.description]


def _topic_rows() -> list[Topic]:
    """The topics, with those of the debug stages as one row."""
    rows = [topic for topic in TOPICS if "/debug/" not in topic.name]
    debug = next(topic for topic in TOPICS if "/debug/" in topic.name)
    stages = ", ".join(STAGES)
    text = f"Milliseconds per frame, one topic per stage: {stages}."
    return [*rows, Topic(debug.direction, "~/debug/STAGE_ms", debug.types, debug.qos, text)]


def tables() -> dict[str, str]:
    """Return the generated blocks by name."""
    header = ("parameter", "type", "default", "range", "change", "meaning")
    return {
        "topics": _table(
            ("", "topic", "type", "QoS", "what"),
            [
                [t.direction, f"`{t.name}`", " or ".join(t.types).replace("/msg/", "/"), t.qos,
                 t.description + (f" Only with {t.needs}." if t.needs else "")]
                for t in _topic_rows()
            ],
        ),
        "parameters": _table(header, [_parameter_row(parameter) for parameter in PARAMETERS]),
        "overlay parameters": _table(header, [_parameter_row(parameter) for parameter in OVERLAY_PARAMETERS]),
    }  # fmt: skip


def fill(text: str) -> str:
    """Return a page with its generated blocks made anew."""
    for name, table in tables().items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        text = re.sub(
            re.escape(begin) + r".*?" + re.escape(end),
            lambda _, t=table, b=begin, e=end: f"{b}\n{t}\n{e}",
            text,
            flags=re.S,
        )
    return text


def main(only_check: bool) -> int:
    """Write the pages; or only say which are out of date, and return 1 if one is."""
    stale = []
    for name in PAGES:
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            stale.append(name)
            if not only_check:
                page.write_text(after, encoding="utf-8")
    print(f"{'out of date' if only_check else 'written'}: {', '.join(stale) or 'nothing'}")
    return int(only_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
