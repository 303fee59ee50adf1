-- One row per leg of a job: what one process did, from the start or a resume to its end.
with told as (
    select *,
        count(*) filter (where type in ('job.started', 'job.resumed')) over (
            partition by file, job_id order by seq) as leg
    from events
    where type not like 'log.%' and (type like 'job.%' or type like 'step.%' or step is not null)
),
ended as (
    select *,
        type in ('job.succeeded', 'job.failed', 'job.cancelled', 'job.waiting') as is_end,
        max(leg) over (partition by file, job_id) as last_leg
    from told
)
select
    job_id,
    leg,
    case
        when max(seq) filter (where is_end) is not null
            then replace(arg_max(type, seq) filter (where is_end), 'job.', '')
        when leg = max(last_leg) and any_value(held) then 'running'
        else 'interrupted'
    end as status,
    arg_max(ended.project, seq) filter (where type in ('job.started', 'job.resumed')) as project,
    min(ts) as started_at,
    max(ts) filter (where is_end) as finished_at,
    -- Old logs tell no durations, nor does a leg that was cut off: then its stamps do.
    coalesce(
        max(nullif(duration_s, 0)) filter (where is_end),
        date_diff('microsecond', min(ts), max(ts) filter (where is_end)) / 1e6,
        date_diff('microsecond', min(ts), max(ts)) / 1e6
    ) as duration_s,
    count(*) filter (where type = 'step.started') as attempts,
    count(*) filter (where type = 'step.succeeded') as succeeded,
    count(*) filter (where type = 'step.failed') as failed,
    count(*) filter (where type = 'step.skipped') as skipped,
    min(seq) as first_seq,
    max(seq) as last_seq,
    file
from ended
left join (select file, held from logs) using (file)
group by file, job_id, leg
order by file, job_id, leg
