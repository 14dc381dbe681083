"""One regional panel fitted by pymc-marketing; runs in an environment of its own, started by ``response.py peers``.

Reads ``panel.csv`` (date, geo, one column a channel: money per head, y: new customers per head), writes
``effects.csv`` (geo, channel, draw, effect: of the last 52 weeks, per head) and prints seconds and diagnostics.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd


def main() -> None:
    folder, draws = Path(sys.argv[1]), int(sys.argv[2])
    import arviz as az
    from pymc_extras.prior import Prior
    from pymc_marketing.mmm import GeometricAdstock, MichaelisMentenSaturation
    from pymc_marketing.mmm.multidimensional import MMM

    warnings.filterwarnings("ignore")
    panel = pd.read_csv(folder / "panel.csv", parse_dates=["date"])
    channels = [c for c in panel if c not in ("date", "geo", "y")]
    saturation = MichaelisMentenSaturation(priors={
        "alpha": Prior("LogNormal", mu=Prior("Normal", mu=-2.0, sigma=1.0, dims="channel"),
                       sigma=Prior("HalfNormal", sigma=0.5, dims="channel"), dims=("channel", "geo")),
        "lam": Prior("LogNormal", mu=-1.0, sigma=0.8, dims="channel"),
    })  # fmt: skip
    adstock = GeometricAdstock(l_max=12, priors={"alpha": Prior("Beta", alpha=2, beta=3, dims="channel")})
    model = MMM(date_column="date", target_column="y", channel_columns=channels, dims=("geo",), adstock=adstock,
                saturation=saturation, yearly_seasonality=2)  # fmt: skip
    x = panel.drop(columns="y")
    start = time.perf_counter()
    model.build_model(x, panel["y"])
    model.add_original_scale_contribution_variable(["channel_contribution"])
    model.fit(x, panel["y"], draws=draws, tune=draws, chains=2, cores=1, random_seed=1, progressbar=False)
    seconds = time.perf_counter() - start
    found = model.idata.posterior["channel_contribution_original_scale"].isel(date=slice(-52, None)).sum("date")
    table = found.stack(draw_=("chain", "draw")).transpose("geo", "channel", "draw_")
    effects = table.to_numpy()
    names = [f"d{i}" for i in range(effects.shape[2])]
    keys = pd.MultiIndex.from_product([table.geo.values, table.channel.values], names=["geo", "channel"])
    pd.DataFrame(effects.reshape(-1, len(names)), index=keys, columns=names).reset_index().to_csv(
        folder / "effects.csv", index=False
    )
    summary = az.summary(
        model.idata, var_names=["saturation_alpha", "saturation_lam", "adstock_alpha"], kind="diagnostics"
    )
    worst = float(np.nanmax(summary["r_hat"])), float(np.nanmin(summary["ess_bulk"]))
    print(f"{seconds:.1f} {worst[0]:.2f} {worst[1]:.0f}")


if __name__ == "__main__":
    main()
