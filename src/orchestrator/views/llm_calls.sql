-- One row per call of a model that ended, well or badly; answers from the cache are no calls.
select
    job_id,
    seq,
    ts,
    step,
    item,
    data->>'provider' as provider,
    data->>'model' as model,
    coalesce(try_cast(data->>'attempt' as bigint), 1) as attempt,
    try_cast(data->>'duration_s' as double) as duration_s,
    try_cast(data->>'success' as boolean) as success,
    try_cast(data->>'tokens_in' as bigint) as tokens_in,
    try_cast(data->>'tokens_out' as bigint) as tokens_out,
    try_cast(data->>'tokens_cache_read' as bigint) as tokens_cache_read,
    try_cast(data->>'tokens_cache_write' as bigint) as tokens_cache_write,
    try_cast(data->>'tokens_reasoning' as bigint) as tokens_reasoning,
    data->>'stop_reason' as stop_reason,
    nullif(data->>'kind', '') as kind,
    nullif(data->>'message', '') as message,
    data->>'cache_key' as cache_key,
    coalesce(try_cast(data->>'simulated' as boolean), false) as simulated,
    file
from events
where type = 'llm.response'
