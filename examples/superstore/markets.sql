-- One row a state that Superstore sells in; figures are sums, or means weighted by people, over its counties.
with facts_of_state as (
  select
    left(fips, 2)                                         as state_fips,
    any_value(state_abbreviation)                         as code,
    sum("PST045214")                                      as population,
    sum("INC110213" * "HSD410213") / sum("HSD410213")     as household_income,
    sum("BZA010213") / sum("PST045214") * 1000            as establishments_per_1000,
    sum("EDU685213" * "PST045214") / sum("PST045214")     as higher_education_share,
    sum("PST045214") / sum("LND110210")                   as density_per_sqmi
  from facts
  group by 1
),
sold as (
  select z.state as code, any_value(o."State") as name, any_value(o."Region") as region
  from orders o
  join zips z on z.zipcode = o."Postal Code"
  group by 1
)
select
  sold.code                          as market_id,
  sold.name,
  sold.region,
  f.population                       as addressable_customers,
  f.household_income,
  f.establishments_per_1000,
  f.higher_education_share,
  f.density_per_sqmi,
  input.geometry
from sold
join facts_of_state f on f.code = sold.code
join input on input.state_fips = f.state_fips
