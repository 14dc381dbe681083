"""Customers to lifetime value: of those now on the books and of those won tomorrow, by market and segment."""

from micromarket.value.bdw import BetaDiscreteWeibull
from micromarket.value.bgbb import BetaGeoBetaBinomial
from micromarket.value.bgnbd import BetaGeoNBD
from micromarket.value.estimate import ValueResult, estimate_value
from micromarket.value.gamma_gamma import GammaGamma
from micromarket.value.mbgnbd import ModifiedBetaGeoNBD
from micromarket.value.paretonbd import ParetoNBD
from micromarket.value.pooling import MarketEffects
from micromarket.value.sbg import ShiftedBetaGeometric
from micromarket.value.weibullnbd import WeibullNBD

__all__ = [
    "BetaDiscreteWeibull",
    "BetaGeoBetaBinomial",
    "BetaGeoNBD",
    "GammaGamma",
    "MarketEffects",
    "ModifiedBetaGeoNBD",
    "ParetoNBD",
    "ShiftedBetaGeometric",
    "ValueResult",
    "WeibullNBD",
    "estimate_value",
]
