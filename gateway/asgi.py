"""Entry point of one worker: reads the environment, builds the gateway."""

from __future__ import annotations

import os
from typing import Any

from granian.utils.proxies import wrap_asgi_with_proxy_headers

from datacenters.lifeline import end_with_parent
from gateway import logs
from gateway.app import create_app
from gateway.settings import read_settings


def build() -> Any:
    """The ASGI callable of one worker process."""
    settings = read_settings(os.environ)
    # A worker whose supervisor is gone would hold the port for nobody.
    end_with_parent()
    logs.configure("gateway", settings.site)
    app = create_app(settings)
    if settings.trusted_proxies:
        return wrap_asgi_with_proxy_headers(app, trusted_hosts=list(settings.trusted_proxies))
    return app
