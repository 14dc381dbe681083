-- One row a customer, placed by the companion file; the segment is the type of contract.
select
  c."Customer ID"                    as customer_id,
  f.fips                             as market_id,
  c."Contract"                       as segment,
  -- tenure is in months, up to the end of the quarter
  cast(date '2019-09-01' - to_months(cast(greatest(c."Tenure in Months", 1) as integer) - 1) as date) as acquired_on
from input c
join location l on l."Customer ID" = c."Customer ID"
join zips z on z.zipcode = cast(l."Zip Code" as varchar)
join facts f on f.state_abbreviation = 'CA' and f.area_name = regexp_replace(z.county, ' County$', '')
