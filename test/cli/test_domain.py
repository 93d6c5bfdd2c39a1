"""Live runs on one machine do not hear each other: each has a ROS domain of its own, for as long as it lives."""

from __future__ import annotations

import socket
import subprocess
import sys

from vl4ad_ros.evaluation.domain import DOMAINS, own_environment, reserve

HOLD = """
import sys
from vl4ad_ros.evaluation.domain import own_environment
print(own_environment()["ROS_DOMAIN_ID"], flush=True)
sys.stdin.read()
"""


def test_a_domain_is_kept_by_one_process_until_it_dies() -> None:
    command = [sys.executable, "-c", HOLD]
    holders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        taken = [int(holder.stdout.readline()) for holder in holders if holder.stdout is not None]
        assert len({*taken, int(own_environment()["ROS_DOMAIN_ID"])}) == 4
        assert set(taken) <= set(DOMAINS)
        assert all(reserve(domain) is None for domain in taken)
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
    free = [reserve(domain) for domain in taken]
    assert any(free), "the domains of killed processes stay reserved"
    for sign in free:
        if sign is not None:
            sign.close()


def test_a_domain_in_which_somebody_talks_is_left_alone() -> None:
    sign = next(found for found in map(reserve, DOMAINS) if found is not None)
    base = sign.getsockname()[1] - 249
    sign.close()
    # As a participant of Fast DDS does: its unicast port, here the fifth one's.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", base + 10 + 2 * 4))
        assert reserve((base - 7400) // 250) is None


def test_the_environment_stays_the_same() -> None:
    first, second = own_environment(), own_environment()
    assert first["ROS_DOMAIN_ID"] == second["ROS_DOMAIN_ID"]
    assert first["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
