-- One row per leg of a job: what one process did, from the start or a resume to its end.
with starts as (
    select file, coalesce(job_id, '') as job, seq as from_seq,
        row_number() over (partition by file, job_id order by seq) as leg
    from events
    where type in ('job.started', 'job.resumed')
),
told as (
    select job_id, seq, ts, type, project, duration_s, file, coalesce(job_id, '') as job,
        type in ('job.succeeded', 'job.failed', 'job.cancelled', 'job.waiting') as is_end
    from events
    where type not like 'log.%' and (type like 'job.%' or type like 'step.%' or step is not null)
),
grouped as (
    select
        told.file,
        told.job_id,
        coalesce(leg, 0) as leg,
        arg_max(type, seq) filter (where is_end) as ended,
        arg_max(project, seq) filter (where type in ('job.started', 'job.resumed')) as project,
        min(ts) as started_at,
        max(ts) as told_at,
        max(ts) filter (where is_end) as finished_at,
        max(nullif(duration_s, 0)) filter (where is_end) as said_s,
        count(*) filter (where type = 'step.started') as attempts,
        count(*) filter (where type = 'step.succeeded') as succeeded,
        count(*) filter (where type = 'step.failed') as failed,
        count(*) filter (where type = 'step.skipped') as skipped,
        min(seq) as first_seq,
        max(seq) as last_seq
    from told
    asof left join starts
        on told.file = starts.file and told.job = starts.job and told.seq >= starts.from_seq
    group by told.file, told.job_id, coalesce(leg, 0)
)
select
    grouped.job_id,
    leg,
    case
        when ended is not null then replace(ended, 'job.', '')
        when held and leg = max(leg) over (partition by file, grouped.job_id) then 'running'
        else 'interrupted'
    end as status,
    project,
    started_at,
    finished_at,
    -- Old logs tell no durations, nor does a leg that was cut off: then its stamps do.
    coalesce(
        said_s, date_diff('microsecond', started_at, coalesce(finished_at, told_at)) / 1e6
    ) as duration_s,
    attempts,
    succeeded,
    failed,
    skipped,
    first_seq,
    last_seq,
    file
from grouped
left join (select file, held from logs) using (file)
order by file, grouped.job_id, leg
