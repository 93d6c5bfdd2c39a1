#!/bin/bash
# Source ROS 2, the environment and the workspace, then run the command.
set -e
# shellcheck disable=SC1090,SC1091
source "/opt/ros/${ROS_DISTRO:-humble}/setup.bash"
# shellcheck disable=SC1091
source /ws/venv/bin/activate
# shellcheck disable=SC1091
source /ws/install/setup.bash
exec "$@"
