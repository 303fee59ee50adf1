-- How often was an answer already there? By day.
select
    ts::date as day,
    count(*) filter (where hit) as hits,
    count(*) filter (where not hit) as misses,
    round(count(*) filter (where hit) / count(*), 3) as hit_rate,
    round(sum(saved_s) filter (where hit), 3) as saved_s,
    sum(saved_usd) filter (where hit and not simulated) as saved_usd
from cache
group by day
order by day
