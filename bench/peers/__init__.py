"""The gateway beside the programs that people would otherwise put there, in one run on one machine."""

from __future__ import annotations
