"""Customers to lifetime value: of those now on the books and of those won tomorrow, by market and segment."""

from micromarket.value.bgnbd import BetaGeoNBD
from micromarket.value.estimate import ValueResult, estimate_value
from micromarket.value.gamma_gamma import GammaGamma
from micromarket.value.pooling import MarketEffects
from micromarket.value.sbg import ShiftedBetaGeometric

__all__ = ["BetaGeoNBD", "GammaGamma", "MarketEffects", "ShiftedBetaGeometric", "ValueResult", "estimate_value"]
