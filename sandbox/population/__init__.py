"""The sandbox's synthetic country: deterministic from a seed, realistic in shape, and nobody in it exists."""

from __future__ import annotations

from sandbox.population.country import Country
from sandbox.population.loading import load

__all__ = ["Country", "load"]
