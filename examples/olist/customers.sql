-- One row a person with a delivered order, placed by the name of the first address's city; 0.4% live in places without a code and are left out.
select
  c.customer_unique_id               as customer_id,
  p.ibge_code                        as market_id
from input c
join places p on p.city = c.customer_city and p.uf = c.customer_state
where p.ibge_code is not null and c.delivered_orders >= 1
