"""Proof: every plan comes with its own randomised test."""

from micromarket.proof.design import TestDesign, design_holdout

__all__ = ["TestDesign", "design_holdout"]
