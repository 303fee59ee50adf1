-- One row per call of a model that ended, well or badly; answers from the cache are no calls.
select
    job_id,
    seq,
    ts,
    step,
    item,
    provider,
    model,
    coalesce(attempt, 1) as attempt,
    duration_s,
    success,
    tokens_in,
    tokens_out,
    try_cast(data->>'tokens_cache_read' as bigint) as tokens_cache_read,
    try_cast(data->>'tokens_cache_write' as bigint) as tokens_cache_write,
    try_cast(data->>'tokens_reasoning' as bigint) as tokens_reasoning,
    cost_usd,
    data->>'stop_reason' as stop_reason,
    nullif(kind, '') as kind,
    nullif(data->>'message', '') as message,
    cache_key,
    coalesce(simulated, false) as simulated,
    file
from events
where type = 'llm.response'
