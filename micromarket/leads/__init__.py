"""Leads by their odds to buy times their value: calibrated, tested on later periods; people only on request."""

from __future__ import annotations

from micromarket.leads.model import LeadModel
from micromarket.leads.restricted import write_leads
from micromarket.leads.score import LeadScores, score_leads
from micromarket.leads.snapshots import Snapshots, take_snapshots
from micromarket.leads.validation import LeadTest, look_back

__all__ = [
    "LeadModel",
    "LeadScores",
    "LeadTest",
    "Snapshots",
    "look_back",
    "score_leads",
    "take_snapshots",
    "write_leads",
]
