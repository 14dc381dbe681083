-- Every municipality of the statistics; six were founded after the map was drawn and have no border.
-- km_to_sellers: mean distance to all sellers. Three fifths of them are in the state of São Paulo; freight and days of delivery
-- grow with it, which income and schooling don't tell.
with sellers_at as (
  select p.ibge_code, count(*) as sellers
  from sellers join places p on p.city = sellers.seller_city and p.uf = sellers.seller_state
  where p.ibge_code is not null
  group by p.ibge_code
),
distance as (
  select
    m.ibge_code,
    sum(w.sellers * 12742 * asin(sqrt(
      pow(sin(radians(m.lat - s.lat) / 2), 2)
      + cos(radians(m.lat)) * cos(radians(s.lat)) * pow(sin(radians(m.lon - s.lon) / 2), 2)
    ))) / sum(w.sellers)             as km_to_sellers
  from stats m cross join sellers_at w join stats s on s.ibge_code = cast(w.ibge_code as varchar)
  group by m.ibge_code
)
select
  s.ibge_code                        as market_id,
  s.municipality || ' (' || s.uf || ')' as name,
  s.uf                               as region,
  s.population_2017                  as addressable_customers,
  s.gdp_per_capita_2016_brl          as gdp_per_head_brl,
  s.idhm_2010                        as human_development,
  s.gini_2010                        as inequality,
  s.higher_education_share_2010      as higher_education_share,
  s.unemployment_10plus_2010         as without_occupation_share,
  s.cars_per_inhabitant_2019         as cars_per_inhabitant,
  s.pay_tv_users_2019 / s.population_2017 as pay_tv_per_inhabitant,
  s.fixed_phones_2019 / s.population_2017 as phones_per_inhabitant,
  s.retail_companies_2016 / s.population_2017 as retailers_per_inhabitant,
  ln(s.population_2017 / s.area_km2) as log_density,
  d.km_to_sellers                    as km_to_sellers,
  i.geometry                         as geometry
from stats s
left join distance d on d.ibge_code = s.ibge_code
left join input i on i.ibge_code = s.ibge_code
