-- One row per step of a job: its last state, and the attempts and seconds of all legs together.
with tried as (
    select file, job_id, step, item, count(*) as attempts, sum(duration_s) as duration_s,
        min(started_at) as started_at, bool_or(status = 'running') as running
    from attempts
    group by file, job_id, step, item
),
told as (
    select file, job_id, step, item,
        arg_max(type, seq) as last,
        arg_max(reason, seq) filter (where type = 'step.skipped') as skipped,
        coalesce(
            arg_max(nullif(kind, ''), seq) filter (where type = 'step.started'),
            -- A step around those of another job file is never started.
            max('workflow') filter (where type = 'step.expanded' and data->>'steps' is not null)
        ) as kind,
        max(ts) filter (where type in (
            'step.succeeded', 'step.failed', 'step.approved', 'step.rejected', 'step.set'
        )) as finished_at,
        arg_max(data->>'message', seq)
            filter (where type in ('step.failed', 'step.retrying')) as message,
        min(seq) as first_seq
    from events
    where step is not null and type like 'step.%'
    group by file, job_id, step, item
),
asking as (
    select distinct file, job_id, step from told where item is not null and last = 'step.waiting'
)
select
    told.job_id,
    told.step,
    told.item,
    case last
        when 'step.skipped' then if(skipped = 'already succeeded', 'succeeded', 'skipped')
        when 'step.started' then if(running, 'running', 'interrupted')
        -- A group: what it is, its items are.
        when 'step.expanded' then
            case when held then 'running' when asking.step is not null then 'waiting' else 'interrupted' end
        when 'step.approved' then 'succeeded'
        when 'step.set' then 'succeeded'
        when 'step.rejected' then 'failed'
        when 'step.invalidated' then 'pending'
        else replace(last, 'step.', '')
    end as status,
    kind,
    coalesce(attempts, 0) as attempts,
    duration_s,
    started_at,
    finished_at,
    if(last = 'step.skipped', skipped, null) as skipped,
    if(last in ('step.failed', 'step.retrying', 'step.interrupted'), message, null) as message,
    told.file
from told
left join tried
    on told.file = tried.file and told.job_id is not distinct from tried.job_id
    and told.step = tried.step and told.item is not distinct from tried.item
left join asking
    on told.file = asking.file and told.job_id is not distinct from asking.job_id
    and told.step = asking.step
left join (select file, held from logs) as locks on told.file = locks.file
order by told.file, told.job_id, first_seq
