-- One row per file that a job published: what was said of it last.
select
    job_id,
    path,
    arg_max(data->>'sha256', seq) as sha256,
    arg_max(size_bytes, seq) as size_bytes,
    arg_max(data->>'media_type', seq) as media_type,
    arg_max(try_cast(data->>'wrote' as boolean), seq) as wrote,
    arg_max(reason, seq) as reason,
    arg_max(step, seq) as step,
    arg_max(ts, seq) as ts,
    count(*) as writes,
    file
from events
where type = 'file.written' and path is not null
group by file, job_id, path
order by file, job_id, path
