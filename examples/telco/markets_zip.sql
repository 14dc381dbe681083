-- One row a zip code of the company's population file; area and border where the Census has them.
select
  cast(p."Zip Code" as varchar)      as market_id,
  coalesce(z.major_city || ' ', '') || cast(p."Zip Code" as varchar) as name,
  coalesce(z.county, 'Unknown')      as region,
  p."Population"                     as addressable_customers,
  z.median_household_income,
  z.median_home_value,
  z.population_density,
  i.geometry                         as geometry
from population p
left join input i on i.zcta = cast(p."Zip Code" as varchar)
left join zips z on z.zipcode = cast(p."Zip Code" as varchar)
