"""Proof: every plan comes with its own randomised test, and the readout teaches the next plan."""

from micromarket.proof.design import TestDesign, design_holdout

__all__ = ["TestDesign", "design_holdout"]
