"""A ROS domain that no other run on this machine uses."""

from __future__ import annotations

import os
import random
import socket
from functools import cache

from vl4ad_ros.io.errors import Vl4adError

# Domains whose ports lie below those that Linux hands out by itself (from 32768 on). 0 is everybody's.
DOMAINS = range(1, 101)
# Ports of a domain by the DDS standard: participant n has the base + 10 + 2n and the one after it. With discovery on
# this machine only, participants have a number below 32.
_BASE, _PER_DOMAIN, _FIRST, _PARTICIPANTS = 7400, 250, 10, 32
# The last port of a domain is no participant's: whoever has it bound has reserved the domain.
_SIGN = 249


def _bound(port: int) -> socket.socket | None:
    """Bind a UDP port; None where another process has it."""
    sign = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sign.bind(("", port))
    except OSError:
        sign.close()
        return None
    return sign


def _silent(base: int) -> bool:
    """Return whether nobody talks in a domain, reserved or not."""
    ports = [_bound(base + _FIRST + 2 * number) for number in range(_PARTICIPANTS)]
    for port in ports:
        if port is not None:
            port.close()
    return None not in ports


def reserve(domain: int) -> socket.socket | None:
    """Reserve a domain until the returned socket closes; None: it is reserved, or somebody talks in it."""
    base = _BASE + _PER_DOMAIN * domain
    sign = _bound(base + _SIGN)
    if sign is not None and not _silent(base):
        sign.close()
        return None
    return sign


@cache
def _own() -> tuple[int, socket.socket]:
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        sign = reserve(domain)
        if sign is not None:
            return domain, sign
    raise Vl4adError(f"All ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are in use on this machine; end some runs.")


def own_environment() -> dict[str, str]:
    """Return the environment with a ROS domain of this process's own, for its whole life, on this machine only."""
    return os.environ | {"ROS_DOMAIN_ID": str(_own()[0]), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
