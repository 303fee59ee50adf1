-- Which logs are still of v1 or v2.0? Counted by line, as they stand in the files.
select
    file,
    job_id,
    case
        when v1 + v2_0 = 0 then 'v2.1'
        when sealed > 0 then 'old lines, sealed: kept as they are'
        else 'old: orch migrate-events'
    end as state,
    v1,
    v2_0,
    v2_1,
    rejected,
    lines,
    bytes
from logs
order by v1 + v2_0 = 0, file
