-- One row per look into the cache: a hit names who paid for the answer, a miss says what differs.
select
    job_id,
    seq,
    ts,
    step,
    item,
    type = 'cache.hit' as hit,
    provider,
    model,
    cache_key,
    case when type = 'cache.miss' then reason end as reason,
    data->>'from_job' as from_job,
    from_seq,
    tokens_in,
    tokens_out,
    saved_s,
    saved_usd,
    coalesce(simulated, false) as simulated,
    file
from events
where type in ('cache.hit', 'cache.miss')
