"""Conditional normalizing flows by the names of `--memory`."""
from flows.base import Flow
from flows.glow import Glow
from flows.realnvp import RealNVP

__all__ = ["FLOWS", "Flow", "Glow", "RealNVP"]

FLOWS = {"realnvp": RealNVP, "glow": Glow}
