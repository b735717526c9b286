"""`massar dc …`: what operators may ask and order.

Invariant: every refusal is printed with its reason.
"""

from __future__ import annotations

import click

from datacenters import (
    break_glass_commands,
    drill_commands,
    looking_commands,
    order_commands,
    reconcile_commands,
)


@click.group()
def dc() -> None:
    """Which datacenter is active, why, and what may change it."""


for _command in (
    looking_commands.status,
    looking_commands.explain,
    looking_commands.plan,
    order_commands.switchover,
    order_commands.failover,
    order_commands.freeze,
    order_commands.abort,
    order_commands.hold,
    order_commands.redeclare,
    reconcile_commands.reconcile,
    drill_commands.drill,
    break_glass_commands.group,
):
    dc.add_command(_command)
