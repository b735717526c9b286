"""Entry point of one worker: reads the environment, builds the gateway."""

from __future__ import annotations

import gc
import os
from typing import Any

from granian.utils.proxies import wrap_asgi_with_proxy_headers

from datacenters.lifeline import end_with_parent
from gateway import logs
from gateway.app import create_app
from gateway.settings import read_settings

# Objects made since the last look, and looks at the young before one at the older and the oldest. CPython's own 700 look at
# the young after two requests, and at everything after two hundred.
COLLECTOR_THRESHOLDS = (50_000, 20, 50)


def build() -> Any:
    """The ASGI callable of one worker process."""
    settings = read_settings(os.environ)
    # A worker whose supervisor is gone would hold the port for nobody.
    end_with_parent()
    logs.configure("gateway", settings.site)
    app = create_app(settings)
    _calm_collector()
    if settings.trusted_proxies:
        return wrap_asgi_with_proxy_headers(app, trusted_hosts=list(settings.trusted_proxies))
    return app


def _calm_collector() -> None:
    """Let the collector look at what is new, not again and again at modules and entries that stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
