select
  "CustomerID"                       as customer_id,
  cast("Zip Code" as varchar)        as market_id,
  "Contract"                         as segment
from input
