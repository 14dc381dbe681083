"""Response: how each market answers to money."""

from micromarket.response.estimate import estimate_response
from micromarket.response.model import SaturatingPanel
from micromarket.response.result import ResponseResult

__all__ = ["ResponseResult", "SaturatingPanel", "estimate_response"]
