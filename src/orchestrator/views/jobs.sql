-- One row per job: its state and totals over all legs; it is running only while its log is held.
with told as (
    select *,
        count(*) filter (where type in ('job.started', 'job.resumed')) over (
            partition by file, job_id order by seq) as leg
    from events
    where type not like 'log.%' and (type like 'job.%' or type like 'step.%' or step is not null)
),
legs as (
    select file, job_id, leg,
        coalesce(
            max(try_cast(data->>'duration_s' as double))
                filter (where type in ('job.succeeded', 'job.failed', 'job.cancelled', 'job.waiting')),
            date_diff('microsecond', min(ts), max(ts)) / 1e6) as duration_s
    from told
    group by file, job_id, leg
),
spent as (
    select file, job_id, sum(duration_s) as duration_s, count(*) filter (where leg > 0) as legs
    from legs
    group by file, job_id
),
stood as (
    select file, job_id, count(*) as steps,
        count(*) filter (where status = 'succeeded') as succeeded,
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'waiting') as waiting
    from steps
    group by file, job_id
),
ends as (
    select file, job_id,
        arg_max(type, seq) filter (where type in (
            'job.started', 'job.resumed', 'job.succeeded', 'job.failed', 'job.cancelled', 'job.waiting')) as last,
        arg_max(data->>'project', seq)
            filter (where type in ('job.started', 'job.resumed')) as project,
        coalesce(min(ts) filter (where type = 'job.started'), min(ts)) as started_at,
        max(ts) filter (where type in ('job.succeeded', 'job.failed', 'job.cancelled', 'job.waiting')) as ended
    from told
    group by file, job_id
)
select
    job_id,
    project,
    -- A job that waited is open again when somebody has answered.
    case when last in ('job.succeeded', 'job.failed', 'job.cancelled')
        or (last = 'job.waiting' and waiting > 0 and not held)
        then replace(last, 'job.', '')
        when held then 'running' else 'interrupted' end as status,
    started_at,
    case when last in ('job.succeeded', 'job.failed', 'job.cancelled', 'job.waiting') then ended end as finished_at,
    duration_s,
    legs,
    coalesce(steps, 0) as steps,
    coalesce(succeeded, 0) as succeeded,
    coalesce(failed, 0) as failed,
    file
from ends
join spent using (file, job_id)
left join stood using (file, job_id)
left join (select file, held from logs) using (file)
order by started_at, job_id
