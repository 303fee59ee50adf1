-- One row per look into the cache: a hit names who paid for the answer, a miss says what differs.
select
    job_id,
    seq,
    ts,
    step,
    item,
    type = 'cache.hit' as hit,
    data->>'provider' as provider,
    data->>'model' as model,
    data->>'cache_key' as cache_key,
    case when type = 'cache.miss' then data->>'reason' end as reason,
    data->>'from_job' as from_job,
    try_cast(data->>'from_seq' as bigint) as from_seq,
    try_cast(data->>'tokens_in' as bigint) as tokens_in,
    try_cast(data->>'tokens_out' as bigint) as tokens_out,
    try_cast(data->>'saved_s' as double) as saved_s,
    coalesce(try_cast(data->>'simulated' as boolean), false) as simulated,
    file
from events
where type in ('cache.hit', 'cache.miss')
