-- One row a county of California; people from the company's own population file, summed over its zip codes.
select
  input.fips                         as market_id,
  input.name || ' County'            as name,
  case
    when facts.fips in ('06025','06037','06059','06065','06071','06073','06111') then 'South'
    when facts.fips in ('06001','06013','06041','06055','06075','06081','06085','06087','06095','06097') then 'Bay Area'
    when facts.fips in ('06019','06029','06031','06039','06047','06053','06069','06077','06079','06083','06099','06107') then 'Central'
    else 'North'
  end                                as region,
  coalesce(people.population, 0)     as addressable_customers,
  facts.INC110213                    as median_household_income,
  facts.HSD310213                    as persons_per_household,
  facts.EDU685213                    as higher_education_share,
  facts.POP060210                    as density_per_sqmi,
  input.geometry                     as geometry
from input
join facts using (fips)
left join (
  select f.fips, sum(p."Population") as population
  from population p
  join zips z on z.zipcode = cast(p."Zip Code" as varchar)
  join facts f on f.state_abbreviation = 'CA' and f.area_name = regexp_replace(z.county, ' County$', '')
  group by f.fips
) people on people.fips = input.fips
where input.state_fips = '06'
