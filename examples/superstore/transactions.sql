-- One row an order line; profit is the margin.
select
  o."Customer ID" || ' ' || z.state  as customer_id,
  cast(o."Order Date" as date)       as date,
  cast(o."Sales" as double)          as amount,
  cast(o."Profit" as double)         as margin,
  o."Category"                       as product
from input o
join zips z on z.zipcode = o."Postal Code"
