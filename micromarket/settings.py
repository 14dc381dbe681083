"""What ``plan.yml`` says, as frozen values. Read by :mod:`micromarket.config`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from micromarket.remote import RemotePath

RELATIONSHIPS = ("contractual", "non-contractual")
FORMATS = ("pdf", "html", "xlsx")
PERIODS = ("week", "month", "quarter")
LATER_ROWS = ("refuse", "leave out")
#: ``previous_run: latest``: the run before this one among those that lie where this one will.
LATEST = Path("latest")
TABLES = (
    "markets", "customers", "transactions", "customer_summary", "subscriptions", "spend", "outcomes", "leads",
    "prospects", "sales_force", "field_notes", "experiments",
)  # fmt: skip


@dataclass(frozen=True)
class Company:
    """Who the plan is for. ``currency``: ISO 4217 code that every amount is in."""

    name: str
    currency: str = "USD"


@dataclass(frozen=True)
class PlanPeriod:
    """First and last day of the plan, both included."""

    start: dt.date
    end: dt.date

    @property
    def days(self) -> int:
        return (self.end - self.start).days + 1

    @property
    def years(self) -> float:
        """Length in years of 365.25 days, or exactly a whole number where the dates say so."""
        after = self.end + dt.timedelta(days=1)
        if (after.month, after.day) == (self.start.month, self.start.day):
            return float(after.year - self.start.year)
        return self.days / 365.25


@dataclass(frozen=True)
class Economics:
    """Money rules. Rates are fractions per year, except ``margin_rate`` (margin per unit of revenue).

    ``servicing_cost``: money per customer and month, taken off the margin. ``margin_rate`` may be left out only where
    every transaction carries its own margin.
    """

    relationship: str
    margin_rate: float | None = None
    discount_rate: float = 0.10
    horizon_months: int = 36
    servicing_cost: float = 0.0


@dataclass(frozen=True)
class Source:
    """Where a table comes from: a file, a file seen through SQL, or a database seen through SQL.

    ``extra`` names further files that the SQL may use beside ``input``; ``dissolve`` is a column of a geometry file:
    areas with the same value are merged before the SQL sees them. ``inside``: the table lives in the engine that
    counts (``sql`` is run there) and is never copied.
    """

    table: str
    path: Path | RemotePath | None = None
    sql: str | None = None
    connection: str | None = None
    extra: tuple[tuple[str, Path | RemotePath], ...] = ()
    layer: str | None = None
    dissolve: str | None = None
    shown_as: str = ""
    inside: bool = False


@dataclass(frozen=True)
class EngineSettings:
    """Where customers, purchases and contracts are counted; whichever it is, the counts are the same.

    ``kind``: duckdb (here, out of core; ``memory_limit`` such as 8GB, ``threads``), spark (``master``, ``config``;
    ``staging``: a folder that its workers can read, for tables that come from files), or database (``connection``, a
    URL, with the tables in it).
    """

    kind: str = "duckdb"
    memory_limit: str | None = None
    threads: int | None = None
    master: str | None = None
    config: tuple[tuple[str, str], ...] = ()
    staging: Path | None = None
    connection: str | None = field(default=None, repr=False)
    file: str = field(default="plan.yml", repr=False, compare=False)  # that said so, for messages


@dataclass(frozen=True)
class Budget:
    """Limits of the reallocation; see the contract. Changes are (lowest, highest) ratios to the current money.

    ``min_ticket``: a cell gets nothing or at least this much money; ``round_to``: money in multiples of this much.
    """

    total: float | None = None  # None: current
    max_shift: float = 0.30
    market_change: tuple[float, float] = (0.5, 2.0)
    cell_change: tuple[float, float] = (0.0, 3.0)
    channel_change: tuple[float, float] | None = None
    region_change: tuple[float, float] | None = None
    min_return: float | None = None
    risk_aversion: float = 0.0
    test_reserve: float = 0.05
    min_ticket: float = 0.0
    round_to: float | None = None


@dataclass(frozen=True)
class Tests:
    """What tests may be.

    ``channels``: that may be tested (None: all); ``force_in``, ``force_out``: markets that take part, that never do;
    ``most_markets``: most that are treated (below 8: a few against a synthetic control); ``cells``: things tried
    beside one another; ``most_volume``: largest share of new customers in tested markets; ``buffer``: no two tested
    markets touch (None: where spend works across borders); ``run``: the best test where it pays, or always.
    """

    __test__ = False  # not a test of pytest

    channels: tuple[str, ...] | None = None
    force_in: tuple[str, ...] = ()
    force_out: tuple[str, ...] = ()
    most_markets: int | None = None
    cells: int = 3
    most_volume: float = 0.6
    buffer: bool | None = None
    run: str = "where it pays"


@dataclass(frozen=True)
class Objective:
    """What a unit of money counts that comes from new customers, deeper accounts, customers kept (weights, 0 to 1)."""

    acquire: float = 1.0
    deepen: float = 0.0
    retain: float = 0.0


@dataclass(frozen=True)
class FieldRound:
    """How far the field's answers move a target.

    ``cap``: largest change, as a share of the target. ``weight``: part of a proposed change that counts, before the
    region's sum is restored. ``within``: targets add up again inside every region, or only over the company.
    """

    cap: float = 0.10
    weight: float = 0.5
    within: str = "region"


@dataclass(frozen=True)
class RepMoves:
    """How far sales people may change territory.

    ``max_moves``: largest share of all reps; ``within``: region or company; ``ramp_months``: until who has moved sells
    as before; ``min_gain``: what a move has to bring, as a share of what a busy rep wins.
    """

    max_moves: float = 0.10
    within: str = "region"
    ramp_months: float = 3.0
    min_gain: float = 0.1


@dataclass(frozen=True)
class Targets:
    """``growth``: of company revenue over the plan period against the same span before; ``attainment``: wanted odds."""

    growth: float = 0.10
    split: tuple[str, ...] = ("market", "segment")
    period: str = "month"
    attainment: float = 0.6
    objective: Objective = field(default_factory=Objective)
    field_round: FieldRound = field(default_factory=FieldRound)
    reps: RepMoves = field(default_factory=RepMoves)


@dataclass(frozen=True)
class Report:
    """``min_cell``: groups of fewer customers than this are not shown."""

    formats: tuple[str, ...] = FORMATS
    min_cell: int = 10


@dataclass(frozen=True)
class Keep:
    """Which published runs of this company stay: the latest ``runs``, and those of the last ``months`` of data."""

    runs: int | None = None
    months: int | None = None


@dataclass(frozen=True)
class Alarms:
    """How far a run may differ from the one before it without a word. Shares are fractions.

    ``rows``: change of a table's rows; ``amounts``: of means, and beyond chance of what the latest weeks brought;
    ``holes``: of the share of empty values (absolute); ``mix``: share that changes place between categories; ``rank``:
    lowest rank correlation of the markets' scores; ``figures``: change of the plan's headline figures.
    """

    rows: float = 0.15
    amounts: float = 0.25
    holes: float = 0.05
    mix: float = 0.10
    rank: float = 0.85
    figures: float = 0.40


@dataclass(frozen=True)
class RunRules:
    """What happens around a run that nobody watches. Nothing here changes a plan, but for ``alarms``.

    ``log``: file that takes a line of JSON for each event; ``on_success``, ``on_failure``: a command and its arguments,
    run without a shell in the folder of ``plan.yml``, stopped after ``hook_timeout`` seconds; ``hook_required``: the
    run counts as failed where its command does.
    """

    log: Path | None = None
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    hook_timeout: float = 60.0
    hook_required: bool = False
    keep: Keep = field(default_factory=Keep)
    alarms: Alarms = field(default_factory=Alarms)


@dataclass(frozen=True)
class Pinned:
    """What a run has settled and its stages keep to; see :mod:`micromarket.pinned`."""

    as_of: dt.date
    later_rows: str
    previous_run: Path | None


@dataclass(frozen=True)
class WriteBack:
    """Where the published tables of a run are written: ``connection`` (URL), ``schema`` (None: the database's own)."""

    connection: str = field(repr=False)
    schema: str | None = None
    prefix: str = "micromarket_"


@dataclass(frozen=True)
class Settings:
    """Everything ``plan.yml`` says. ``path`` is the file itself; relative paths in it are relative to its folder.

    ``previous_run``: a finished run folder, or the folder that such runs are in, whose peer groups are kept
    (``latest``: not yet settled which).
    ``later_rows``: rows of a later day than ``as_of`` are refused, or left out (the data as they stood on that day).
    ``locale``: how numbers, dates and currencies are written (de_DE, en_IN, …; ``None``: the house style).
    """

    path: Path
    company: Company
    as_of: dt.date
    plan: PlanPeriod
    economics: Economics
    data: Mapping[str, Source]
    features: tuple[str, ...] | None = None
    budget: Budget = field(default_factory=Budget)
    targets: Targets = field(default_factory=Targets)
    tests: Tests = field(default_factory=Tests)
    report: Report = field(default_factory=Report)
    seed: int = 1
    engine: EngineSettings = field(default_factory=EngineSettings)
    segments: Any = "auto"
    previous_run: Path | None = None
    geography: Any = None  # geography.keys.Geography, or None
    locale: str | None = None
    later_rows: str = "refuse"
    run: RunRules = field(default_factory=RunRules)
    write_back: WriteBack | None = None

    def has(self, table: str) -> bool:
        """Whether ``data`` names the table."""
        return table in self.data
