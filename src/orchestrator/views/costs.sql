-- One row per job, step, model and day: dollars spent and saved; simulated calls cost nothing and stay out.
with spent as (
    select file, job_id, step, provider, model, ts::date as day,
        (success is not false)::int as call, (success is false)::int as failed, 0 as hit,
        (cost_usd is null and success is not false)::int as unpriced,
        tokens_in, tokens_out, cost_usd, null::decimal(38, 12) as saved_usd
    from llm_calls
    where not simulated
    union all
    select file, job_id, step, provider, model, ts::date as day,
        0 as call, 0 as failed, 1 as hit, 0 as unpriced,
        null as tokens_in, null as tokens_out, null as cost_usd, saved_usd
    from cache
    where hit and not simulated
)
select
    job_id,
    step,
    provider,
    model,
    day,
    sum(call)::bigint as calls,
    sum(failed)::bigint as failed,
    -- Their price is not known, so `cost_usd` is what the others cost: null if there are none.
    sum(unpriced)::bigint as unpriced,
    sum(hit)::bigint as hits,
    sum(tokens_in)::bigint as tokens_in,
    sum(tokens_out)::bigint as tokens_out,
    sum(cost_usd) as cost_usd,
    sum(saved_usd) as saved_usd,
    file
from spent
group by file, job_id, step, provider, model, day
order by file, job_id, step, provider, model, day
