-- How long did models take, and how many tokens? By provider and model; simulated calls stand apart.
select
    provider,
    model,
    simulated,
    count(*) as calls,
    count(*) filter (where success is false) as failed,
    round(sum(duration_s), 3) as total_s,
    round(avg(duration_s), 3) as mean_s,
    round(max(duration_s), 3) as longest_s,
    sum(tokens_in)::bigint as tokens_in,
    sum(tokens_out)::bigint as tokens_out
from llm_calls
group by provider, model, simulated
order by total_s desc nulls last, provider, model
