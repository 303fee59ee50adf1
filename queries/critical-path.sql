-- Where did the time of a job go? Its critical path: the steps that each waited for the one before.
with recursive ran as (
    select file, job_id, step, item, kind, started_at, finished_at, duration_s, seq
    from attempts
    where status = 'succeeded'
    qualify row_number() over (partition by file, job_id, step, item order by seq desc) = 1
),
needs as (
    select file, seq, unnest(json_extract_string(data, '$.needs[*]')) as need
    from events
    where type = 'step.started'
),
edges as (
    -- What a step waited for is the need that was done last.
    select ran.file, ran.job_id, ran.seq,
        arg_max(before.seq, before.finished_at) as before_seq
    from ran
    join needs on ran.file = needs.file and ran.seq = needs.seq
    join ran as before
        on before.file = ran.file and before.job_id is not distinct from ran.job_id
        and before.step = needs.need
    group by ran.file, ran.job_id, ran.seq
),
path as (
    select file, job_id, arg_max(seq, finished_at) as seq, 0 as back
    from ran
    group by file, job_id
    union all
    select path.file, path.job_id, edges.before_seq, path.back + 1
    from path
    join edges on path.file = edges.file and path.seq = edges.seq
    where path.back < 100000
)
select
    path.job_id,
    row_number() over (partition by path.file, path.job_id order by back desc) as "order",
    ran.step,
    ran.item,
    ran.kind,
    round(date_diff('microsecond', lag(ran.finished_at) over job, ran.started_at) / 1e6, 3)
        as waited_s,
    round(ran.duration_s, 3) as duration_s,
    round(ran.duration_s / sum(ran.duration_s) over (partition by path.file, path.job_id), 3) as share
from path
join ran on path.file = ran.file and path.seq = ran.seq
window job as (partition by path.file, path.job_id order by back desc)
order by path.job_id, "order"
