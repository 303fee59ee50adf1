-- One row per job: its state and totals over all legs; it is running only while its log is held.
with spent as (
    select file, job_id,
        sum(duration_s) as duration_s,
        count(*) filter (where leg > 0) as legs,
        arg_max(status, leg) as last,
        arg_max(finished_at, leg) as finished_at,
        arg_max(project, leg) as project,
        coalesce(min(started_at) filter (where leg = 1), min(started_at)) as started_at
    from legs
    group by file, job_id
),
stood as (
    select file, job_id,
        count(*) as steps,
        count(*) filter (where status = 'succeeded') as succeeded,
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'waiting') as waiting,
        sum(attempts)::bigint as attempts
    from steps
    group by file, job_id
),
asked as (
    select file, job_id,
        count(*) as calls,
        sum(duration_s) as llm_s,
        sum(tokens_in)::bigint as tokens_in,
        sum(tokens_out)::bigint as tokens_out,
        sum(cost_usd) filter (where not simulated) as cost_usd
    from llm_calls
    group by file, job_id
),
found as (
    select file, job_id,
        count(*) filter (where hit) as hits,
        sum(saved_usd) filter (where hit and not simulated) as saved_usd
    from cache
    group by file, job_id
)
select
    spent.job_id,
    project,
    -- Where somebody has answered since, a job that waited is open again.
    if(last = 'waiting' and coalesce(waiting, 0) = 0, 'interrupted', last) as status,
    started_at,
    if(last in ('running', 'interrupted'), null, finished_at) as finished_at,
    spent.duration_s,
    legs,
    coalesce(steps, 0) as steps,
    coalesce(succeeded, 0) as succeeded,
    coalesce(failed, 0) as failed,
    coalesce(attempts, 0) as attempts,
    coalesce(calls, 0) as calls,
    coalesce(hits, 0) as hits,
    llm_s,
    tokens_in,
    tokens_out,
    cost_usd,
    saved_usd,
    spent.file
from spent
left join stood on spent.file = stood.file and spent.job_id is not distinct from stood.job_id
left join asked on spent.file = asked.file and spent.job_id is not distinct from asked.job_id
left join found on spent.file = found.file and spent.job_id is not distinct from found.job_id
order by started_at, spent.job_id
