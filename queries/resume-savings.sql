-- What did resuming save? Steps that were not run again, and the time and calls they had taken.
with reused as (
    select file, job_id, step, item, seq, from_seq
    from events
    where type = 'step.skipped' and reason = 'already succeeded'
),
results as (
    select file, seq, duration_s from events where type = 'step.succeeded'
),
work as (
    select reused.*,
        coalesce(results.duration_s, attempts.duration_s) as duration_s
    from reused
    left join results on reused.file = results.file and reused.from_seq = results.seq
    left join (
        select file, job_id, step, item, arg_max(duration_s, seq) as duration_s
        from attempts
        where status = 'succeeded'
        group by file, job_id, step, item
    ) as attempts
        on reused.file = attempts.file and reused.step = attempts.step
        and reused.job_id is not distinct from attempts.job_id
        and reused.item is not distinct from attempts.item
),
calls as (
    select work.file, work.job_id, work.seq,
        count(*) as calls,
        sum(llm_calls.tokens_in)::bigint as tokens_in,
        sum(llm_calls.tokens_out)::bigint as tokens_out,
        sum(llm_calls.cost_usd) filter (where not simulated) as cost_usd
    from work
    join llm_calls
        on work.file = llm_calls.file and work.step = llm_calls.step
        and work.item is not distinct from llm_calls.item
        and llm_calls.seq < coalesce(work.from_seq, work.seq) and llm_calls.success is not false
    group by work.file, work.job_id, work.seq
)
select
    work.job_id,
    any_value(legs) as legs,
    count(*) as steps_reused,
    round(sum(work.duration_s), 3) as saved_s,
    coalesce(sum(calls.calls), 0)::bigint as calls_saved,
    sum(calls.tokens_in)::bigint as tokens_in,
    sum(calls.tokens_out)::bigint as tokens_out,
    sum(calls.cost_usd) as saved_usd
from work
left join calls
    on work.file = calls.file and work.seq = calls.seq
    and work.job_id is not distinct from calls.job_id
left join jobs on work.file = jobs.file and work.job_id is not distinct from jobs.job_id
group by work.file, work.job_id
order by saved_s desc nulls last, work.job_id
