"""What could be wrong, in order of importance and by what follows from it; and what the field said."""

from __future__ import annotations

from micromarket.notes import Assumption
from micromarket.plan.assembly import Plan

MOST = 10  # more would bury what matters; the rest stands in the appendix
# what a caution touches, most important first where the plan moves money, and the stages that speak of it
_TOUCHES = (
    ("This plan", ("plan",)),
    ("What the money does", ("response", "allocation")),
    ("How much room there is", ("potential",)),
    ("What a customer is worth", ("value",)),
    ("Targets and funnel", ("targets", "funnel")),
    ("Proof", ("tests",)),
    ("The data", ("data",)),
)
_OWN_FAILURE = "The plan's own check"
_FIELD = "field note"
Caution = tuple[str, str]


def cautions(plan: Plan) -> tuple[list[Caution], list[Caution]]:
    """(What it touches, the caution): those that matter most, and the rest; each list keeps what belongs together.

    Left out: what the pages say anyway (why a stage is missing, what stands in the way of the target). Every stage
    names its own cautions most important first; from each group the first ones come first.
    """
    said = {*plan.missing.values(), (plan.number("targets", "gap") or {}).get("text")}
    groups: list[list[Caution]] = []
    for touches, stages in _TOUCHES:
        texts = [text for stage, text in plan.warnings if _speaker(stage, text) in stages and text not in said]
        groups.append([(touches, text) for text in texts])
    everything = [caution for group in groups for caution in group]
    if len(everything) <= MOST + 2:  # one or two left over are not worth a table of their own
        return everything, []
    chosen: set[Caution] = set()
    for place in range(max((len(g) for g in groups), default=0)):
        for group in groups:
            if place < len(group) and len(chosen) < MOST:
                chosen.add(group[place])
    return [c for c in everything if c in chosen], [c for c in everything if c not in chosen]


def _speaker(stage: str, text: str) -> str:
    """The plan stage's own words are about the data (groups left out), but for a check that failed."""
    return "data" if stage == "plan" and not text.startswith(_OWN_FAILURE) else stage


def assumptions(plan: Plan) -> tuple[list[tuple[str, Assumption]], list[tuple[str, Assumption]]]:
    """(Stage, assumption): what the plan takes as given, and apart from it what single people of the field said."""
    field = [(s, a) for s, a in plan.assumptions if a.source.startswith(_FIELD)]
    return [(s, a) for s, a in plan.assumptions if not a.source.startswith(_FIELD)], field
