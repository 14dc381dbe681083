"""The public interface, step by step: what CHANGELOG.md and semantic versions are about. All else may change any day.

Named ``module.name``, as programs import it; what doesn't share its name with a module is also ``micromarket.name``.
"""

from __future__ import annotations

PUBLIC: dict[str, tuple[str, ...]] = {
    "Settings": ("config.read_settings", "config.Settings"),
    "Input": ("load.open_dataset", "load.check", "load.Dataset"),
    "Data": ("summarise.summarise", "market_data.MarketData"),
    "Value": ("value.estimate_value", "value.ValueResult", "value.customer_values.write_customer_values"),
    "Potential": ("potential.estimate_potential", "potential.PotentialResult"),
    "Response": ("response.estimate_response", "response.ResponseResult"),
    "Allocation": (
        "allocation.plan_budget", "allocation.BudgetResult", "allocation.allocate", "allocation.Allocation",
        "allocation.Certificate",
    ),
    "Targets": ("targets.set_targets", "targets.TargetsResult"),
    "Funnel": ("funnel.back_solve", "funnel.FunnelResult"),
    "Tests": ("proof.design_holdout", "proof.TestDesign"),
    "Plan": ("plan.assemble", "plan.Plan", "report.write_reports"),
    "Run": ("runner.run", "workspace.Workspace", "notes.Notes"),
    "Explore": (
        "explore.explorer_of", "explore.Explorer", "explore.Scenario", "explore.Outcome", "explore.compare",
        "explore.save_scenario", "explore.profile_of", "explore.Profile",
    ),
    "After a plan": (
        "readout.readout", "readout.Readout", "field.export_sheets", "field.import_answers", "exports.quota_table",
        "exports.crm_table", "exports.write_table", "leads.write_leads", "write_back.write_back", "config.WriteBack",
    ),
    "Simulate": ("simulate.simulate", "simulate.Truth"),
    "Errors": (
        "errors.MicromarketError", "errors.InputError", "errors.InfeasibleError", "errors.StageError", "errors.Problem",
        "errors.MicromarketWarning",
    ),
}  # fmt: skip

#: Name in ``micromarket`` → module that has it.
HOMES = {
    dotted.rpartition(".")[2]: dotted.rpartition(".")[0]
    for names in PUBLIC.values()
    for dotted in names
    if dotted.rpartition(".")[2] != dotted.rpartition(".")[0].split(".")[-1]
}
