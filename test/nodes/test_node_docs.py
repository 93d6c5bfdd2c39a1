"""The documentation's tables are those of the declarations, and the declarations are those of the running node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from ros_harness import ROOT, Client, parameters, running

from vl4ad_ros.nodes.topics import TOPICS
from vl4ad_ros.runtime.settings import PARAMETERS

# What every ROS node has besides.
EVERY_NODE = {"/parameter_events", "/rosout", "/clock", "/detector/transition_event"}


def test_the_tables_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "generate_node_docs.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}run scripts/generate_node_docs.py"
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for name in (*(p.name for p in PARAMETERS), *(t.name for t in TOPICS if "/debug/" not in t.name)):
        assert f"`{name}`" in page


def test_the_running_node_is_as_declared(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    arguments = parameters(bundle=str(mock_bundle), prompt_set="traffic")
    told = client.hear_prompt_set()
    with running("vl4ad_ros.nodes.detector", tmp_path / "log", *arguments):
        client.wait("the node", lambda: told)
        node = client.node

        def topics() -> dict[str, str]:
            sent = dict(node.get_publisher_names_and_types_by_node("detector", "/"))
            heard = dict(node.get_subscriber_names_and_types_by_node("detector", "/"))
            return {"out " + k: v[0] for k, v in sent.items() if k not in EVERY_NODE} | {
                "in " + k: v[0] for k, v in heard.items() if k not in EVERY_NODE
            }

        declared = {
            f"{t.direction} /{t.name}".replace("/~/", "/detector/").replace("//", "/"): t.types[0]
            for t in TOPICS
            if not t.needs
        }
        client.wait("all topics", lambda: topics() == declared)

        listed = client.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
        own = [name for name in listed if name != "use_sim_time" and not name.startswith(("qos_", "start_type"))]
        assert sorted(own) == sorted(parameter.name for parameter in PARAMETERS)
        names = [parameter.name for parameter in PARAMETERS]
        described = client.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
        values = client.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
        for parameter, descriptor, value in zip(PARAMETERS, described.descriptors, values, strict=True):
            assert descriptor.description == parameter.full_description
            ranges = [(r.from_value, r.to_value) for r in (*descriptor.integer_range, *descriptor.floating_point_range)]
            assert ranges == ([] if parameter.low is None else [(parameter.low, parameter.high)])
            if parameter.name not in ("bundle", "prompt_set"):
                texts = {1: value.bool_value, 2: value.integer_value, 3: value.double_value, 4: value.string_value}
                assert texts.get(value.type, list(value.string_array_value)) == parameter.default
