-- Delivered orders only: what was paid for goods and freight. No dates, hence no age_days and no recency.
select
  c.customer_unique_id               as customer_id,
  c.delivered_orders                 as orders,
  coalesce(c.delivered_payment_value, 0) as revenue
from input c
join places p on p.city = c.customer_city and p.uf = c.customer_state
where p.ibge_code is not null and c.delivered_orders >= 1
