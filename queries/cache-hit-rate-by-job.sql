-- How often was an answer already there? By job, the newest first.
select
    job_id,
    count(*) filter (where hit) as hits,
    count(*) filter (where not hit) as misses,
    round(count(*) filter (where hit) / count(*), 3) as hit_rate,
    round(sum(saved_s) filter (where hit), 3) as saved_s,
    sum(saved_usd) filter (where hit and not simulated) as saved_usd
from cache
group by job_id
order by max(ts) desc, job_id
