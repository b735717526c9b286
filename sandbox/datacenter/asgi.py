"""The entry point of a datacenter process: `granian --interface asgi sandbox.datacenter.asgi:app`, one worker.

Invariant: the only place here that reads the environment.
"""

from __future__ import annotations

import os

from datacenters import lifeline
from sandbox.datacenter.app import create_datacenter
from sandbox.datacenter.logs import json_log
from sandbox.datacenter.settings import from_environment

if os.environ.get("MASSAR_DIE_WITH_PARENT"):
    lifeline.end_with_parent()

_settings = from_environment(os.environ)
app = create_datacenter(_settings, log=json_log(site=_settings.site))
