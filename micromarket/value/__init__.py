"""Customers to lifetime value: of those now on the books and of those won tomorrow, by market and segment."""

from micromarket.value.estimate import ValueResult, estimate_value
from micromarket.value.models.bdw import BetaDiscreteWeibull
from micromarket.value.models.bgbb import BetaGeoBetaBinomial
from micromarket.value.models.bgnbd import BetaGeoNBD
from micromarket.value.models.gamma_gamma import GammaGamma
from micromarket.value.models.mbgnbd import ModifiedBetaGeoNBD
from micromarket.value.models.paretonbd import ParetoNBD
from micromarket.value.models.sbg import ShiftedBetaGeometric
from micromarket.value.models.weibullnbd import WeibullNBD
from micromarket.value.pooling import MarketEffects

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
