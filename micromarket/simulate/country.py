"""An invented island country: coastlines, markets as cells, regions, features that are alike nearby, names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from micromarket.simulate.scenario import stream

_LON, _LAT = 131.0, 15.5  # open water in the Philippine Sea: nobody's land
_KM_PER_DEGREE = 111.32
_DIGITS = 4  # about 11 m


@dataclass(frozen=True)
class Country:
    """Markets as polygons (WGS 84) with what a statistical office would know. Arrays have one entry a market.

    ``frame`` has market_id, name, region and public features; ``fields`` holds standardised latent surfaces that the
    rest of the world is made from; ``x``, ``y`` are kilometres; ``near`` is the adjacency as a sparse matrix of km.
    """

    frame: pd.DataFrame
    geometry: np.ndarray
    fields: dict[str, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    near: csr_matrix
    region: np.ndarray


def _blob(rng: np.random.Generator, centre: tuple[float, float], radius: float, stretch: float) -> shapely.Polygon:
    """An irregular coastline: a circle with random waves, stretched and turned."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    waves = np.arange(2, 14)
    size = 0.34 * rng.normal(size=len(waves)) / waves**0.95
    shape = np.exp((size[:, None] * np.cos(waves[:, None] * angle + rng.uniform(0, 6.28, len(waves))[:, None])).sum(0))
    points = np.c_[np.cos(angle) * stretch**0.5, np.sin(angle) / stretch**0.5] * (radius * shape)[:, None]
    turn = rng.uniform(-0.4, 0.4)
    points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return shapely.make_valid(shapely.Polygon(points + np.asarray(centre)))


def _islands(rng: np.random.Generator, markets: int) -> list[shapely.Polygon]:
    """One main island, a second one and a few small ones, apart from each other; fewer where there are few markets."""
    scale = np.sqrt(max(markets, 20) / 220)
    wanted = [((0.0, 0.0), 120.0, 1.8)]
    if markets >= 12:
        wanted.append(((215.0, -95.0), 62.0, 1.5))
    small = min(5, markets // 40)
    around = rng.uniform(0, 2 * np.pi) + np.arange(small) * 2 * np.pi / max(small, 1)
    wanted += [((235 * np.cos(a), 170 * np.sin(a)), rng.uniform(13, 24), rng.uniform(1, 2)) for a in around]
    land: list[shapely.Polygon] = []
    for centre, radius, stretch in wanted:
        blob = _blob(rng, (centre[0] * scale, centre[1] * scale), radius * scale, stretch)
        for other in land:
            blob = blob.difference(other.buffer(8 * scale))
        parts = [p for p in shapely.get_parts(blob) if p.geom_type == "Polygon"]
        if parts:
            biggest = max(parts, key=lambda p: p.area)
            if biggest.area > 150 * scale**2:
                land.append(biggest)
    return land


def _seeds(rng: np.random.Generator, land: list[shapely.Polygon], markets: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the markets, denser near cities, and of the cities (largest first)."""
    everything = shapely.union_all(land)
    west, south, east, north = everything.bounds
    count = max(40 * markets, 4000)
    points = np.c_[rng.uniform(west, east, count), rng.uniform(south, north, count)]
    points = points[shapely.contains_xy(everything, points[:, 0], points[:, 1])]
    cities = points[rng.choice(len(points), max(3, min(12, markets // 30)), replace=False)]
    distance = np.linalg.norm(points[:, None] - cities, axis=2)
    rank = np.arange(1, len(cities) + 1)
    weight = 0.15 + (np.exp(-distance / (30 / rank**0.3)) * 3 / rank**0.5).sum(1)
    chosen = points[rng.choice(len(points), markets, replace=False, p=weight / weight.sum())]
    return chosen, cities


def _cells(points: np.ndarray, land: list[shapely.Polygon]) -> np.ndarray:
    """Voronoi cells of ``points``, island by island, so that no market spans the sea."""
    cells = np.empty(len(points), dtype=object)
    home = np.argmin(np.stack([shapely.distance(island, shapely.points(points)) for island in land]), axis=0)
    for i, island in enumerate(land):
        mine = np.flatnonzero(home == i)
        if len(mine) == 1:
            cells[mine[0]] = island
        elif len(mine) > 1:
            sites = shapely.points(points[mine])
            parts = shapely.get_parts(shapely.voronoi_polygons(shapely.multipoints(sites), extend_to=island.envelope))
            site, cell = shapely.STRtree(parts).query(sites, predicate="intersects")
            _, first = np.unique(site, return_index=True)
            cells[mine] = shapely.intersection(parts[cell[first]], island)
    return cells


def _surface(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, length: float, waves: int = 60) -> np.ndarray:
    """A smooth random surface (random Fourier features of a Gaussian kernel, Rahimi and Recht 2007), standardised."""
    direction = rng.normal(size=(2, waves)) / length
    z = np.cos(np.c_[x, y] @ direction + rng.uniform(0, 2 * np.pi, waves)).sum(1)
    return standard(z)


def standard(z: np.ndarray) -> np.ndarray:
    """``z`` with mean 0 and standard deviation 1 (0 where it doesn't vary)."""
    spread = z.std()
    return (z - z.mean()) / spread if spread > 0 else np.zeros_like(z)


_OPEN = tuple("ka lu ma ni so ta ri ba pe no sa du mi ra te lo va na ki bu ha su la to re da mo ne".split())  # noqa: SIM905
_MID = tuple("ran mar lin dor tan ben sul kar pan nor mel san tor gal bin dal lam ver".split())  # noqa: SIM905
_END = tuple("ga ra na ta ya lo ri mu ong an ang is ari elo una ita ora ay uk en".split())  # noqa: SIM905


def names(rng: np.random.Generator, count: int) -> list[str]:
    """Unique, pronounceable invented names; a few with an accent, an apostrophe or a second word."""
    found: dict[str, None] = {}
    while len(found) < count:
        size = 2 * count + 50
        parts = [rng.choice(_OPEN, size), rng.choice([*_MID, *_OPEN], size), rng.choice(_END, size)]
        long = rng.random(size) < (0.15 if count < 2000 else 0.6)
        extra = rng.choice(_OPEN, size)
        style = rng.random(size)
        for a, b, c, more, is_long, kind in zip(*parts, extra, long, style, strict=True):
            name = a + (more if is_long else "") + b + c
            if kind < 0.03:
                name = a + "'" + b + c
            elif kind < 0.08:
                name = name.replace("a", "á", 1) if kind < 0.05 else name.replace("o", "ô", 1).replace("n", "ñ", 1)
            elif kind < 0.12:
                name = f"{('port', 'san', 'upper', 'new')[int(kind * 1000) % 4]} {name}"
            found[" ".join(word[:1].upper() + word[1:] for word in name.split())] = None
    return list(found)[:count]


def build_country(seed: int, markets: int, regions: int, prefix: str) -> Country:
    """Makes the map, the regions (contiguous on each island) and the public features of ``markets`` markets."""
    rng = stream(seed, "country")
    land = _islands(rng, markets)
    points, cities = _seeds(rng, land, markets)
    middle = shapely.point_on_surface(_cells(points, land))  # one step of Lloyd: no slivers
    cells = _cells(shapely.get_coordinates(middle), land)
    centre = shapely.get_coordinates(shapely.point_on_surface(cells))
    x, y = centre.T
    a, b = shapely.STRtree(cells).query(cells, predicate="intersects")
    apart = a != b
    km = np.linalg.norm(centre[a[apart]] - centre[b[apart]], axis=1)
    near = csr_matrix((np.maximum(km, 0.1), (a[apart], b[apart])), shape=(markets, markets))
    region = _regions(rng, near, centre, min(regions, max(1, markets // 4)))

    distance = np.linalg.norm(centre[:, None] - cities, axis=2)
    city = standard(np.log((np.exp(-distance / 22) / np.arange(1, len(cities) + 1) ** 0.4).sum(1) + 0.03))
    wealth = standard(0.65 * _surface(rng, x, y, 55) + 0.45 * city + 0.35 * rng.normal(size=markets))
    young = standard(0.7 * _surface(rng, x, y, 70) + 0.3 * city + 0.4 * rng.normal(size=markets))
    hidden = standard(_surface(rng, x, y, 35) + 0.5 * rng.normal(size=markets))
    size = standard(0.5 * _surface(rng, x, y, 30) + 0.75 * city + 0.6 * rng.normal(size=markets))
    rivalry = standard(0.6 * _surface(rng, x, y, 45) + 0.35 * city + 0.4 * rng.normal(size=markets))
    entrant = _surface(rng, x, y, 60) + 0.15 * rng.normal(size=markets) - 0.5 * wealth + 0.25 * size
    frame = pd.DataFrame(
        {
            "market_id": [f"{prefix}-{i:0{max(3, len(str(markets)))}d}" for i in range(1, markets + 1)],
            "name": names(rng, markets),
            "region": np.array([f"{n} Region" for n in names(rng, region.max() + 1)], dtype=object)[region],
            "median_income": np.round(6400 * np.exp(0.27 * wealth), -1),
            "urban_share": np.round(1 / (1 + np.exp(-1.2 * city - 0.4 * rng.normal(size=markets))), 3),
            "share_under_35": np.round(0.44 + 0.055 * young, 3),
            "household_size": np.round(3.4 - 0.35 * wealth + 0.25 * rng.normal(size=markets), 2),
            "km_to_city": np.round(distance.min(1), 1),
        }
    )
    fields = {"city": city, "wealth": wealth, "young": young, "hidden": hidden, "size": size, "rivalry": rivalry,
              "entrant": entrant}  # fmt: skip
    return Country(frame, _to_degrees(cells), fields, x, y, near, region)


def _regions(rng: np.random.Generator, near: csr_matrix, centre: np.ndarray, count: int) -> np.ndarray:
    """Markets by the nearest of some seeds along neighbours, so contiguous; islands without a seed by straight line."""
    middle = centre[rng.choice(len(centre), count, replace=False)]
    for _ in range(12):  # k-means: regions of similar size
        nearest = np.linalg.norm(centre[:, None] - middle, axis=2).argmin(1)
        for r in np.unique(nearest):
            middle[r] = centre[nearest == r].mean(axis=0)
    seeds = np.unique(np.linalg.norm(centre[:, None] - middle, axis=2).argmin(0))
    path = dijkstra(near, indices=seeds)
    straight = np.linalg.norm(centre[None] - centre[seeds][:, None], axis=2)
    path = np.where(np.isfinite(path).any(axis=0), path, straight)
    return np.unique(path.argmin(axis=0), return_inverse=True)[1]


def territories(seed: int, country: Country, size: int = 7) -> np.ndarray:
    """Codes of sales territories: about ``size`` neighbouring markets each, inside one region."""
    rng = stream(seed, "territories")
    centre = np.c_[country.x, country.y]
    code, used = np.empty(len(centre), dtype=int), 0
    for region in range(country.region.max() + 1):
        mine = np.flatnonzero(country.region == region)
        parts = _regions(rng, country.near[mine][:, mine], centre[mine], max(1, round(len(mine) / size)))
        code[mine] = used + parts
        used += parts.max() + 1
    return code


def _to_degrees(cells: np.ndarray) -> np.ndarray:
    """From local kilometres to longitude and latitude (equirectangular), on a grid: shared borders stay shared."""
    shrink = np.cos(np.radians(_LAT))
    moved = shapely.transform(
        cells, lambda p: np.c_[_LON + p[:, 0] / (_KM_PER_DEGREE * shrink), _LAT + p[:, 1] / _KM_PER_DEGREE]
    )
    return shapely.set_precision(moved, 10.0**-_DIGITS)
