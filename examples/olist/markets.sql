-- Every municipality of the statistics; six were founded after the map was drawn and have no border.
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
  i.geometry                         as geometry
from stats s
left join input i on i.ibge_code = s.ibge_code
