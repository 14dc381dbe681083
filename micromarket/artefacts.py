"""Every table that a stage leaves for the stages after it: name, file, columns, meaning. Declared once, here.

``tables/`` is published (the contract); ``work/`` stays with the run's working folder. Neither ever holds a row about a
single customer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Artefact:
    """A table written by ``stage``. ``keys``: columns that identify a row; ``optional``: columns that may be absent."""

    stage: str
    path: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    meaning: str
    optional: tuple[str, ...] = ()


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


ARTEFACTS: dict[str, Artefact] = {
    # --- data ---------------------------------------------------------------------------------------------------
    "markets": Artefact(
        "data", "work/markets.parquet", ("market_id",),
        _columns("market_id name region territory addressable_customers market_customers customers reps capacity"
                 " last_target last_actual x_km y_km area_km2"),
        "one row a market: attributes, its feature columns, active customers at as_of, coverage, and geometry (WGS 84)"
        " where the company has boundaries",
    ),
    "neighbours": Artefact("data", "work/neighbours.parquet", ("market_id", "neighbour_id"),
                           _columns("market_id neighbour_id"), "pairs of touching markets, both directions"),
    "cells": Artefact(
        "data", "work/cells.parquet", ("market_id", "segment"),
        _columns("market_id segment customers new_customers_last_year revenue_last_year"),
        "market x segment: customers now on the books (without a contract: who bought in the last 12"
        " months); customers won and revenue over the year up to as_of",
    ),
    "history": Artefact(
        "data", "work/history.parquet", ("market_id", "segment", "month"),
        _columns("market_id segment month new_customers active_customers revenue"),
        "market x segment x whole calendar month, up to 36 months before as_of; all combinations present",
    ),
    "panel": Artefact(
        "data", "work/panel.parquet", ("market_id", "period"), _columns("market_id period new_customers revenue"),
        "market x week (or month), all combinations present: the response side of spend",
    ),
    "spend": Artefact("data", "work/spend.parquet", ("market_id", "period", "channel"),
                      _columns("market_id period channel amount"), "money per market, period of the panel, channel"),
    "current": Artefact("data", "work/current.parquet", ("market_id", "channel"), _columns("market_id channel current"),
                        "last year's spend scaled to the length of the plan; all combinations present"),
    "leads": Artefact(
        "data", "work/leads.parquet", ("market_id", "segment", "channel", "month"),
        _columns("market_id segment channel month leads mql sal sql won lost lag_days"),
        "leads by month of creation, and how many of them got how far; lag_days: mean days from created to won."
        " market_id or segment empty where the lead has none",
    ),
    "lead_steps": Artefact(
        "data", "work/lead_steps.parquet", ("region", "channel", "stage", "day"),
        _columns("region channel stage day moved lost open"),
        "leads of the last three years by the stage they reached (leads: created) and the whole days they stayed in it:"
        " how many moved on to the next recorded stage, were lost, or are still there (open)",
    ),
    "open_leads": Artefact(
        "data", "work/open_leads.parquet", ("market_id", "segment", "channel", "stage", "day"),
        _columns("market_id segment channel stage day leads value"),
        "open leads by the stage they are in and the whole days since they reached it; value: sum, where recorded",
    ),
    "lead_reasons": Artefact(
        "data", "work/lead_reasons.parquet", ("region", "stage", "reason"), _columns("region stage reason leads"),
        "why leads were lost, by the stage they were in",
    ),
    "territories": Artefact(
        "data", "tables/territories.parquet", ("market_id",), _columns("market_id name region territory manager"),
        "who answers for a market; territory and manager empty where the company names none",
    ),
    "accounts": Artefact(
        "data", "work/accounts.parquet", ("market_id", "segment"),
        _columns("market_id segment customers revenue revenue_squares products before lost lost_over_days"),
        "market x segment: what active customers bring a year (money; revenue_squares: sum of each one's square), how"
        " many different products they hold in sum; customers on the books lost_over_days ago, and how many are gone",
    ),
    "products": Artefact(
        "data", "work/products.parquet", ("market_id", "segment", "product"),
        _columns("market_id segment product customers purchases revenue"),
        "market x segment x product: active customers who hold it, purchases (or contracts) and revenue of a year",
    ),
    "market_map": Artefact(
        "data", "tables/market_map.parquet", ("original_id",),
        _columns("original_id original_name market_id name lead"),
        "where markets were joined: each market of the company's files and the one of the plan it is part of; lead: it"
        " gave that its name",
    ),
    "census_coverage": Artefact(
        "data", "work/census_coverage.parquet", ("market_id", "source"), _columns("market_id source coverage"),
        "share of each market's area that a census file covers; under a half its figures are empty there",
    ),
    "input_profile": Artefact(
        "data", "work/input_profile.parquet", ("table", "column", "measure"), _columns("table column measure value"),
        "the shape of the input: rows, means, shares of empty values and of categories, what the latest weeks brought",
    ),
    # --- value --------------------------------------------------------------------------------------------------
    "value_cells": Artefact(
        "value", "work/value_cells.parquet", ("market_id", "segment"),
        _columns("market_id segment customers clv clv_low clv_high new_customer_clv new_customer_clv_low"
                 " new_customer_clv_high first_year_revenue monthly_retention customer_equity"),
        "market x segment: value per customer (money, discounted margin over the horizon), pooled towards its peers;"
        " first_year_revenue: expected undiscounted revenue of a new customer in its first 12 months;"
        " monthly_retention: share of today's revenue that a month later is still there",
    ),
    "value_markets": Artefact(
        "value", "work/value_markets.parquet", ("market_id",),
        _columns("market_id customers clv clv_low clv_high new_customer_clv new_customer_clv_low new_customer_clv_high"
                 " first_year_revenue customer_equity acquisition_cost payback_months"),
        "the same by market (segments weighted by their customers, new ones by the last year's mix)",
    ),
    "value_acquisition": Artefact(
        "value", "work/value_acquisition.parquet", ("level", "basis", "key"),
        _columns("level basis key name spend new_customers cac cac_low cac_high new_customer_clv ltv_to_cac"
                 " payback_months"),
        "what a new customer costs and brings; level: company, market, segment, channel; basis: blended (all money over"
        " all customers), paid (of the channels that customers are booked under), unpaid (customers of a channel that"
        " spends nothing), unclaimed (money of a channel that no customer is booked under), unknown (nothing says which"
        " channel won whom); cac: money per customer won, with its 90% range; payback_months: empty where the margin"
        " does not repay within the horizon; groups of few new customers have their numbers empty",
    ),
    "channel_segments": Artefact(
        "value", "work/channel_segments.parquet", ("market_id", "channel", "segment"),
        _columns("market_id channel segment share new_customer_clv"),
        "share of each segment in what a channel wins in a market (adds up to 1), and what such a customer is worth",
    ),
    "value_holdout": Artefact(
        "value", "work/value_holdout.parquet", ("market_id",), _columns("market_id predicted actual low high"),
        "purchases (contracts: departures) of known customers in the hidden end of the history, predicted with its 90%"
        " range, and what came",
    ),
    # --- potential ----------------------------------------------------------------------------------------------
    "scores": Artefact(
        "potential", "tables/scores.parquet", ("market_id",),
        _columns("market_id customers penetration share clv clv_low clv_high new_customer_clv customer_equity"
                 " potential_customers potential_low potential_high headroom opportunity opportunity_share peer_group"
                 " quadrant play"),
        "the contract's scores; potential and headroom in customers, opportunity in money. headroom_*: 90% interval;"
        " top_fifth: probability of the fifth with most headroom; peer_potential: what the 40 nearest peers let expect"
        " (customers); outside: unlike any market that was learnt from; around: customers more (or fewer) than with"
        " typical neighbours; hot_spot: hot or cold where a market and its neighbours together hold more, or fewer,"
        " than predicted; development_index, category_index: BDI and CDI, 100 = average; *_gap: headroom by cause"
        " (customers); cause: the largest; quadrant_odds: probability of the quadrant; peer_group_leaning: the group"
        " that it changes to if it leans there again; opportunity_*: money of each objective; objective: what weighs"
        " most there; cross_sell: the product most below its peers",
        _columns("headroom_low headroom_high top_fifth peer_potential outside around hot_spot"
                 " development_index category_index cause coverage_gap spend_gap price_gap rivals_gap"
                 " unexplained_gap quadrant_odds peer_group_leaning"
                 " opportunity_acquire opportunity_deepen opportunity_retain objective cross_sell"),
    ),
    "causes": Artefact(
        "potential", "tables/causes.parquet", ("market_id", "cause"),
        _columns("market_id cause kind customers value"),
        "why a market stays behind its potential: customers by cause add up to its headroom; kind: fixable (the company"
        " can turn it) or structural; value: money, at the value of a new customer",
    ),
    "peer_groups": Artefact(
        "potential", "tables/peer_groups.parquet", ("peer_group", "feature"),
        _columns("peer_group feature centre typical markets misfit form unit low high middle spread"),
        "what defines a peer group: its centre by feature in standard units, its markets' median in the feature's own;"
        " form, unit, low, high, middle, spread: how a feature becomes standard units. The next run keeps these groups",
    ),
    # --- response -----------------------------------------------------------------------------------------------
    "response": Artefact(
        "response", "tables/response.parquet", ("market_id", "channel"),
        _columns("market_id channel current_spend effect effect_low effect_high marginal_return source"),
        "the contract's response; effect: new customers that the current spend of the plan period brings;"
        " marginal_return: value (money) of the next unit of money",
    ),
    "curves": Artefact(
        "response", "work/curves.parquet", ("market_id", "channel"),
        _columns("market_id channel amplitude half_spend"),
        "new customers over the plan period from spend x: amplitude * x / (x + half_spend); posterior mean amplitude",
    ),
    "curve_draws": Artefact(
        "response", "work/curve_draws.parquet", ("market_id", "channel"), _columns("market_id channel"),
        "columns d000, d001, …: joint posterior draws of the amplitude, same rows and order as curves",
    ),
    "half_draws": Artefact(
        "response", "work/half_draws.parquet", ("channel",), _columns("channel"),
        "columns d000, d001, …: factor of half_spend in the same draws, by channel",
    ),
    # --- allocation, targets, funnel, tests ------------------------------------------------------------------------
    "budget_segments": Artefact(
        "allocation", "tables/budget_segments.parquet", ("market_id", "segment"),
        _columns("market_id segment incremental_customers incremental_value"),
        "what the recommended budget brings more than today's, by market and segment; absent where it isn't known whom"
        " the channels win",
    ),
    "budget": Artefact(
        "allocation", "tables/budget.parquet", ("market_id", "channel"),
        _columns("market_id channel current recommended change incremental_customers incremental_value value_low"
                 " value_high marginal_return reason"),
        "the contract's budget; incremental_*: against keeping the current allocation, over the plan period",
    ),
    "targets": Artefact("targets", "tables/targets.parquet", ("market_id", "segment", "period"),
                        _columns("market_id segment period new_customers revenue margin p_attain last_target"),
                        "the contract's targets"),
    "target_limits": Artefact(
        "targets", "tables/target_limits.parquet", ("market_id", "segment"),
        _columns("market_id segment low high forecast sd"),
        "guardrails of each target over the plan, and the forecast behind it with its standard deviation (money); skew:"
        " skewness of the outcome; sd_company, sd_region: the parts of sd that the company, and a region, share;"
        " sd_luck, sd_luck_company: the parts of a cell, and of what the company shares, that single months bring and"
        " don't repeat; each: revenue in the plan of one new customer;"
        " held_by: the limit that holds the target; conflict: the limit that contradicts the forecast",
        _columns("skew sd_company sd_region sd_luck sd_luck_company each held_by conflict"),
    ),
    "capacity": Artefact(
        "targets", "tables/capacity.parquet", ("territory",),
        _columns("territory region markets reps capacity wanted target utilisation change reps_after utilisation_after"
                 " value_of_next"),
        "reps by territory (region, where none is named): capacity: new customers that they can win over the plan;"
        " wanted: new customers of forecast and budget if reps were no limit; target: of the targets; utilisation:"
        " target over capacity; change: persons to move in (or out); value_of_next: contribution margin that one more"
        " person brings over the horizon",
    ),
    "scoreboard": Artefact(
        "targets", "tables/scoreboard.parquet", ("market_id", "segment"),
        _columns("market_id segment new_customers revenue margin margin_new later_margin spend contribution win_value"
                 " lead_value mql_value sal_value sql_value reps contribution_per_rep cost_per_customer"),
        "what marketing and sales measure, in one contribution margin (money). margin: of the targets inside the plan,"
        " margin_new of it from new customers; later_margin: what those bring after the plan, within the horizon;"
        " contribution = margin + later_margin - spend; *_value: contribution margin of one win, and of one lead that"
        " got so far (win value times its odds); contribution_per_rep, cost_per_customer",
    ),
    "funnel": Artefact("funnel", "tables/funnel.parquet", ("market_id", "segment", "period"),
                       _columns("market_id segment period leads mql sal sql won"),
                       "the contract's funnel; from_pipeline: wins expected of the leads open today",
                       _columns("from_pipeline")),
    "pipeline": Artefact(
        "funnel", "tables/pipeline.parquet", ("level", "key"),
        _columns("level key open_leads expected_wins expected_low expected_high needed weekly_need weeks_covered"
                 " weeks_needed weeks_short acceptance_days accepted rejected waiting overdue"),
        "open leads against the targets, by company, region and territory. expected_wins: of the open leads within the"
        " plan, with a 90% range; needed: wins of the plan that have to come from leads there today; weeks_*: the same"
        " in weeks of the targets. Service level, by company and region: days from MQL to acceptance (median), shares"
        " accepted and rejected in the end, MQL that wait now, and of those longer than nine in ten accepted ones did",
    ),
    "lead_channels": Artefact(
        "funnel", "tables/lead_channels.parquet", ("channel",),
        _columns("channel leads mql sal sql won lag_days spend cost_per_lead cost_per_won leads_due"),
        "last year's leads by channel (those with few in one row); mql to won: share of leads that get there in the end"
        " (young ones completed);"
        " lag_days: lead to win; cost_*: last year's spend over leads and over the wins they end in (empty: no spend"
        " booked); leads_due: the plan's leads at today's mix",
    ),
    "tests": Artefact("tests", "tables/tests.parquet", ("market_id",), _columns("market_id arm pair test"),
                      "the contract's tests; pair: block of like markets; cell: what is tried there; factor: of today's"
                      " money", _columns("cell factor")),
    "drift": Artefact(
        "plan", "tables/drift.parquet", ("scope", "table", "column", "measure"),
        _columns("scope table column measure before now low high change limit alarm text"),
        "this run's input and main figures against the run before; low, high: 90% range where the figure has one;"
        " change: relative (shares: absolute; recent: without the season); alarm: beyond limit (run.alarms); text: the"
        " alarm in words. Without a run before, only what the next one compares with",
    ),
    "changes": Artefact(
        "plan", "tables/changes.parquet", ("market_id",),
        _columns("market_id customers_before customers_now money_before money_now money_change target_before target_now"
                 " target_change play_before play_now reason"),
        "this plan against the one that previous_run names, money over the same length of time; reason: why a market's"
        " money is other than it was",
    ),
}  # fmt: skip

STAGES = ("data", "value", "potential", "response", "allocation", "targets", "funnel", "tests", "plan")
