-- What fails, how often, and what did retrying cost? By kind of failure.
select
    coalesce(failure, 'not told') as failure,
    count(*) as attempts,
    count(*) filter (where retried) as retried,
    count(*) filter (where not retried) as final,
    count(distinct (file, job_id, step, item)) as steps,
    count(distinct (file, job_id)) as jobs,
    round(sum(duration_s), 3) as lost_s,
    round(sum(retry_in_s), 3) as waited_s,
    arg_max(message, started_at) as last_message
from attempts
where status = 'failed'
group by all
order by attempts desc, failure
