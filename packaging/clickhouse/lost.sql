-- Windows that agents made and that will not come, by host and reason. FINAL: a gap that was sent twice counts once.
SELECT
    host,
    agent,
    reason,
    sum(last - first + 1) AS windows
FROM excise.gaps FINAL
GROUP BY host, agent, reason
ORDER BY windows DESC, host, agent, reason
