-- One row per attempt of a step: how it ended, how long it took, and why it failed.
with told as (
    select *,
        lead(type) over steps as then_type,
        lead(ts) over steps as then_ts,
        lead(duration_s) over steps as then_s,
        lead(kind) over steps as then_kind,
        lead(data->>'message') over steps as then_message,
        lead(try_cast(data->>'retry_in_s' as double)) over steps as then_retry_in_s,
        row_number() over (partition by file, job_id, step, item, type order by seq) as ordinal
    from events
    where step is not null and type in (
        'step.started', 'step.succeeded', 'step.failed', 'step.retrying', 'step.interrupted')
    window steps as (partition by file, job_id, step, item order by seq)
)
select
    job_id,
    step,
    item,
    coalesce(attempt, ordinal) as attempt,
    nullif(kind, '') as kind,
    case
        when then_type = 'step.succeeded' then 'succeeded'
        when then_type in ('step.failed', 'step.retrying') then 'failed'
        when then_type is null and held then 'running'
        else 'interrupted'
    end as status,
    coalesce(then_type = 'step.retrying', false) as retried,
    ts as started_at,
    case when then_type <> 'step.started' then then_ts end as finished_at,
    -- Old logs tell no durations: then the stamps around the attempt do.
    case
        when then_type in ('step.succeeded', 'step.failed', 'step.retrying')
            then coalesce(nullif(then_s, 0), date_diff('microsecond', ts, then_ts) / 1e6)
    end as duration_s,
    case when then_type in ('step.failed', 'step.retrying') then nullif(then_kind, '') end as failure,
    case when then_type in ('step.failed', 'step.retrying') then then_message end as message,
    case when then_type = 'step.retrying' then then_retry_in_s end as retry_in_s,
    data->>'key' as key,
    seq,
    file
from told
left join (select file, held from logs) using (file)
where type = 'step.started'
order by file, job_id, seq
