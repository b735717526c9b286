"""The routes are tested through a whole gateway: its fixtures."""

from __future__ import annotations

from tests.gateway.conftest import (  # noqa: F401 - fixtures are found by their names
    _accounts_engine,
    accounts,
    accounts_world,
    cut_off,
    datacenters,
    discreet_logs,
    etcd_client,
    fresh_day,
    fresh_key,
    keys_folder,
    make_world,
    own_etcd,
    session_world,
    shared,
    world,
)
