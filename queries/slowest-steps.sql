-- Which steps take longest? Attempts that succeeded, over all jobs: middle, 95th percentile, longest.
select
    step,
    any_value(kind) as kind,
    count(*) as runs,
    round(quantile_cont(duration_s, 0.5), 3) as p50_s,
    round(quantile_cont(duration_s, 0.95), 3) as p95_s,
    round(max(duration_s), 3) as longest_s,
    round(sum(duration_s), 3) as total_s
from attempts
where status = 'succeeded'
group by step
order by p95_s desc, step
limit 50
