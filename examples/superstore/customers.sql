-- One row an account: a customer in a state.
select
  o."Customer ID" || ' ' || z.state  as customer_id,
  z.state                            as market_id,
  any_value(o."Segment")             as segment
from input o
join zips z on z.zipcode = o."Postal Code"
group by all
