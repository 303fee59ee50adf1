-- Which calls were made more than once, where a cache could have answered? What all but the first took.
select
    provider,
    model,
    simulated,
    cache_key,
    count(*) as calls,
    count(distinct (file, job_id)) as jobs,
    string_agg(distinct step, ', ' order by step) as steps,
    round(sum(duration_s) - arg_min(duration_s, (ts, seq)), 3) as wasted_s,
    (sum(tokens_in) - arg_min(tokens_in, (ts, seq)))::bigint as wasted_tokens_in,
    (sum(tokens_out) - arg_min(tokens_out, (ts, seq)))::bigint as wasted_tokens_out,
    sum(cost_usd) - arg_min(cost_usd, (ts, seq)) as wasted_usd
from llm_calls
where cache_key <> '' and success is not false
group by provider, model, simulated, cache_key
having count(*) > 1
order by wasted_s desc nulls last, cache_key
limit 100
