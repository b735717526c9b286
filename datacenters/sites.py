"""What one site knows of the others by setting: addresses and names, nothing observed.

Invariant: a site without a `datacenter_url` (the witness) votes, and is never a place to forward to.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class DisplayName(msgspec.Struct, frozen=True):
    """What people call the site."""

    ar: str
    fr: str


class Site(msgspec.Struct, frozen=True):
    """One site; `private_url` is its gateway's listener for machines (outcomes, notices)."""

    datacenter_url: str | None = None
    private_url: str | None = None
    name: DisplayName | None = None


Sites = Mapping[str, Site]


def with_datacenter(sites: Sites) -> dict[str, str]:
    """The datacenters' addresses by site name, without trailing slash."""
    return {name: site.datacenter_url.rstrip("/") for name, site in sites.items() if site.datacenter_url}
