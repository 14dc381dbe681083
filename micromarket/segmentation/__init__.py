"""Customers → one segmentation for sales and marketing, in plain words, stable, with its worth."""

from micromarket.segmentation.rules import Rules, Segment, read_segments
from micromarket.segmentation.segments import (
    NO_SEGMENT,
    UNKNOWN_SEGMENT,
    Segmentation,
    describe_segments,
    said,
    segment_rules,
    segmented_customers,
    segments_at_purchase,
)
from micromarket.segmentation.worth import SegmentWorth

__all__ = [
    "NO_SEGMENT",
    "UNKNOWN_SEGMENT",
    "Rules",
    "Segment",
    "SegmentWorth",
    "Segmentation",
    "describe_segments",
    "read_segments",
    "said",
    "segment_rules",
    "segmented_customers",
    "segments_at_purchase",
]
