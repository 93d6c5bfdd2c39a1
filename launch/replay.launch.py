"""Play a bag through the live detector: ros2 launch vl4ad_ros replay.launch.py bag:=DRIVE.

Starts the player (`vl4ad replay`), the detector and the overlay; the arguments of detector.launch.py are arguments here
as well. With out:=FOLDER a recorder writes what the live detector publishes, and the evaluator makes a report of it
when the bag is over: latency and drops, and with label_topic also AP, FPR95 and components. If a process fails, all
end, and so does ros2 launch, with status 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import Action, LaunchContext, LaunchDescription

DETECTOR_LAUNCH = str(Path(__file__).resolve().parent / "detector.launch.py")
TOPIC = "/camera/image_raw"
COMMAND = [sys.executable, "-m", "vl4ad_ros.cli.main"]

ARGUMENTS: tuple[tuple[str, str | None, str], ...] = (
    ("bag", None, "The bag (rosbag2 folder, .mcap, .db3) or video to play."),
    ("topic", "", "The bag's image topic; empty: its only one."),
    ("label_topic", "", "The bag's ground truth (1 anomaly, 0 none, 255 void), for AP and FPR95; empty: none."),
    ("compressed", "false", "Whether that topic carries sensor_msgs/CompressedImage."),
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
    image = f"{TOPIC}/compressed" if value["compressed"].lower() == "true" else TOPIC
    topic = ["--topic", value["topic"]] if value["topic"] else []
    play = [*COMMAND, "replay", value["bag"], *topic, "--to", image, "--rate", value["rate"], "--clock"]
    play += ["--subscribers", "1"]
    if not value["out"]:
        looped = ["--loop"] if value["loop"].lower() == "true" else []
        player = ExecuteProcess(cmd=[*play, *looped], name="player", output="screen")
        return [_one_after_another({player: EmitEvent(event=Shutdown(reason="the bag is over"))}), player]
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
    evaluator = ExecuteProcess(
        cmd=[
            *COMMAND, "evaluate", "bag", value["bag"], *topics, "--recorded", str(out / RECORDING),
            "--sent", str(out / SENT), "--out", str(out / REPORT),
        ],
        name="evaluator",
        output="screen",
    )  # fmt: skip
    done = EmitEvent(event=Shutdown(reason="the evaluation is done"))
    return [_one_after_another({player: None, recorder: evaluator, evaluator: done}), recorder, player]


def _new_run(out: Path) -> Path:
    """Make the folder of a run; with a part of another run in it, a report could mix the two."""
    there = [name for name in (RECORDING, SENT, REPORT) if (out / name).exists()]
    if there:
        raise RuntimeError(f"{out} holds {', '.join(there)} of another run; remove that, or name another out:=FOLDER")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _one_after_another(following: dict[ExecuteProcess, Action | None]) -> Action:
    """Start what follows a process when it has done its work; when one fails, end everything.

    Args:
        following: What follows; a process that is not in it (a node) has to last until the end.
    """

    def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        if event.returncode or event.action not in following:
            # Only an exception makes `ros2 launch` end with another status than 0: a Shutdown event does not.
            raise RuntimeError(f"{event.process_name} ended with status {event.returncode}, before the run was over")
        action = following[event.action]
        return [] if action is None else [action]

    return RegisterEventHandler(OnProcessExit(on_exit=ended))


def generate_launch_description() -> LaunchDescription:
    """Describe the processes and the arguments."""
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(DETECTOR_LAUNCH),
        # Its other arguments need not be passed on: a launch file that is included sees those of the command line.
        launch_arguments=[("image_topic", TOPIC), ("use_sim_time", "true")],
    )
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_processes), detector])
