-- One row per step of a job: its last state, and the attempts and seconds of all legs together.
with marked as (
    select *,
        try_cast(data->>'duration_s' as double) as said_s,
        -- Old logs tell no durations: then the stamps around the attempt do.
        max(ts) filter (where type = 'step.started') over (
            partition by file, job_id, step, item order by seq) as began
    from events
    where step is not null and type like 'step.%'
)
select
    job_id,
    step,
    item,
    case
        when arg_max(type, seq) = 'step.skipped'
            and arg_max((data->>'reason'), seq) filter (where type = 'step.skipped')
                = 'already succeeded' then 'succeeded'
        when arg_max(type, seq) in ('step.approved', 'step.set') then 'succeeded'
        when arg_max(type, seq) = 'step.rejected' then 'failed'
        else replace(arg_max(type, seq), 'step.', '')
    end as status,
    coalesce(
        arg_max(data->>'kind', seq) filter (where type = 'step.started'),
        case when count(*) filter (where type = 'step.waiting') > 0 then 'approve' end) as kind,
    count(*) filter (where type = 'step.started') as attempts,
    sum(coalesce(said_s, date_diff('microsecond', began, ts) / 1e6))
        filter (where type in ('step.succeeded', 'step.failed', 'step.retrying')) as duration_s,
    min(ts) filter (where type = 'step.started') as started_at,
    max(ts) filter (where type in (
        'step.succeeded', 'step.failed', 'step.approved', 'step.rejected', 'step.set')) as finished_at,
    arg_max(data->>'reason', seq) filter (where type = 'step.skipped') as skipped,
    arg_max(data->>'message', seq) filter (where type in ('step.failed', 'step.retrying')) as message,
    file
from marked
group by file, job_id, step, item
order by file, job_id, min(seq)
