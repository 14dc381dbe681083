"""The field round: target sheets for those who sell, their answers blended in within caps, with an audit trail."""

from __future__ import annotations

from micromarket.field.answers import Answer, read_answers
from micromarket.field.blend import Blend, blend
from micromarket.field.published import PublishedRun, read_published
from micromarket.field.round import import_answers
from micromarket.field.sheets import export_sheets

__all__ = [
    "Answer",
    "Blend",
    "PublishedRun",
    "blend",
    "export_sheets",
    "import_answers",
    "read_answers",
    "read_published",
]
