"""Play a bag through the live detector: ros2 launch vl4ad_ros replay.launch.py bag:=DRIVE.

Starts the player (`vl4ad replay`), the detector and the overlay; the arguments of detector.launch.py are arguments here
as well. With out:=FOLDER a recorder writes what the live detector publishes, and the evaluator makes a report of it
when the bag is over: latency and drops, and with label_topic also AP, FPR95 and components. If a process fails, all
end, and so does ros2 launch, with status 1; where a node has died, a report of what came before names it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.events.process import ProcessExited, SignalProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import Action, LaunchContext, LaunchDescription
from vl4ad_ros.io.bag_reader import BagReader, is_bag
from vl4ad_ros.io.bag_writer import COMPRESSED

DETECTOR_LAUNCH = str(Path(__file__).resolve().parent / "detector.launch.py")
TOPIC = "/camera/image_raw"
COMMAND = [sys.executable, "-m", "vl4ad_ros.cli.main"]

ARGUMENTS: tuple[tuple[str, str | None, str], ...] = (
    ("bag", None, "The bag (rosbag2 folder, .mcap, .db3) or video to play."),
    ("topic", "", "The bag's image topic; empty: its only one."),
    ("label_topic", "", "The bag's ground truth (1 anomaly, 0 none, 255 void), for AP and FPR95; empty: none."),
    ("compressed", "", "Whether that topic carries sensor_msgs/CompressedImage; empty: as the bag has it."),
    ("rate", "1.0", "Speed, 1 = as recorded."),
    ("loop", "false", "Play again and again (not with out)."),
    ("out", "", "Folder for the recording and the report, without ones from before; empty: only play."),
)

# What a run leaves in `out`.
RECORDING, SENT, REPORT = "recording", "sent.jsonl", "report"


def _processes(context: LaunchContext) -> list[Action]:
    """Make the player, and with `out` the recorder and the evaluator behind it."""
    value = {name: str(LaunchConfiguration(name).perform(context)) for name, _, _ in ARGUMENTS}
    if not Path(value["bag"]).exists():
        raise RuntimeError(f"there is no bag {value['bag']}")
    compressed = value["compressed"] or str(_is_compressed(Path(value["bag"]), value["topic"] or None)).lower()
    for_the_nodes = SetLaunchConfiguration("compressed", compressed)
    image = f"{TOPIC}/compressed" if compressed.lower() == "true" else TOPIC
    topic = ["--topic", value["topic"]] if value["topic"] else []
    play = [*COMMAND, "replay", value["bag"], *topic, "--to", image, "--rate", value["rate"], "--clock"]
    play += ["--subscribers", "1"]
    if not value["out"]:
        looped = ["--loop"] if value["loop"].lower() == "true" else []
        player = ExecuteProcess(cmd=[*play, *looped], name="player", output="screen")
        over = EmitEvent(event=Shutdown(reason="the bag is over"))
        return [for_the_nodes, _one_after_another({player: over}), player]
    out = _new_run(Path(value["out"]))
    player = ExecuteProcess(cmd=[*play, "--log", str(out / SENT)], name="player", output="screen")
    recorder = ExecuteProcess(
        cmd=[
            sys.executable, "-m", "vl4ad_ros.nodes.recorder", str(out / RECORDING), "--source", image, "--idle", "5",
        ],
        name="recorder",
        output="screen",
    )  # fmt: skip
    topics = ["--image-topic", value["topic"]] if value["topic"] else []
    topics += ["--label-topic", value["label_topic"]] if value["label_topic"] else []
    evaluate = [
        *COMMAND, "evaluate", "bag", value["bag"], *topics, "--recorded", str(out / RECORDING),
        "--sent", str(out / SENT), "--out", str(out / REPORT),
    ]  # fmt: skip
    evaluator = ExecuteProcess(cmd=evaluate, name="evaluator", output="screen")
    done = EmitEvent(event=Shutdown(reason="the evaluation is done"))
    following = {player: None, recorder: evaluator, evaluator: done}
    return [for_the_nodes, _one_after_another(following, evaluate), recorder, player]


def _is_compressed(bag: Path, topic: str | None) -> bool:
    if not is_bag(bag):  # A video.
        return False
    with BagReader(bag) as reader:
        return reader.topics()[reader.image_topic(topic)] == COMPRESSED


def _new_run(out: Path) -> Path:
    """Make the folder of a run; with a part of another run in it, a report could mix the two."""
    there = [name for name in (RECORDING, SENT, REPORT) if (out / name).exists()]
    if there:
        raise RuntimeError(f"{out} holds {', '.join(there)} of another run; remove that, or name another out:=FOLDER")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _one_after_another(following: dict[ExecuteProcess, Action | None], evaluate: Sequence[str] = ()) -> Action:
    """Start what follows a process when it has done its work; when one fails, end everything.

    Args:
        following: What follows; a process that is not in it (a node) has to last until the end.
        evaluate: Command of the evaluation. With it, a node's end stops player and recorder, and what was recorded is
            still evaluated.
    """
    faults: list[str] = []

    def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        action = following.get(event.action)
        if faults:
            if event.action in following and action is None:  # The player, which was stopped.
                return []
            if not event.returncode and isinstance(action, ExecuteProcess):
                return [ExecuteProcess(cmd=[*evaluate, "--note", faults[0]], name="evaluator", output="screen")]
            raise RuntimeError(faults[0])
        if not event.returncode and event.action in following:
            return [] if action is None else [action]
        # Only an exception makes `ros2 launch` end with another status than 0: a Shutdown event does not.
        fault = f"{event.process_name} ended with status {event.returncode}, before the run was over"
        if not evaluate or event.action in following:
            raise RuntimeError(fault)
        faults.append(fault)
        return [
            EmitEvent(event=SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(process)))
            for process, then in following.items()
            if not isinstance(then, EmitEvent)
        ]

    return RegisterEventHandler(OnProcessExit(on_exit=ended))


def generate_launch_description() -> LaunchDescription:
    """Describe the processes and the arguments."""
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(DETECTOR_LAUNCH),
        # Its other arguments need not be passed on: a launch file that is included sees those of the command line.
        launch_arguments=[("image_topic", TOPIC), ("use_sim_time", "true"), ("exit_on_fault", "true")],
    )
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_processes), detector])
