-- How often was an answer already there? By provider and model.
select
    provider,
    model,
    count(*) filter (where hit) as hits,
    count(*) filter (where not hit) as misses,
    round(count(*) filter (where hit) / count(*), 3) as hit_rate,
    round(sum(saved_s) filter (where hit), 3) as saved_s
from cache
group by provider, model
order by hits + misses desc, provider, model
