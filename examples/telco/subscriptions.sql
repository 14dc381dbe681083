-- One row a contract. Who churned left some day in the quarter: the files don't say when, so a customer's last day is the
-- end of July, August or September, by a hash of the id. Nobody who left before July is in the files.
select
  c."Customer ID"                    as customer_id,
  cast(last_month - to_months(cast(greatest(c."Tenure in Months", 1) as integer) - 1) as date) as started_on,
  case when s."Churn Value" = 1 then last_day(last_month) end as ended_on,
  c."Monthly Charge"                 as monthly_value,
  c."Internet Type"                  as product
from (
  select *,
    case when "Customer ID" in (select "Customer ID" from status where "Churn Value" = 1)
      then date '2019-07-01' + to_months(cast(('0x' || left(md5("Customer ID"), 6))::int % 3 as integer))
      else date '2019-09-01' end as last_month
  from input
) c
join status s on s."Customer ID" = c."Customer ID"
