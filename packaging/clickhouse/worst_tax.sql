-- Worst AI tax by service, of the last hour: which services spend the most time on what is not the model, and on what.
-- tax_seconds is what there is to win; tax_ratio is its share, with its standard error.
-- A service is a workload of the same name on any number of hosts. FINAL: a window that arrived twice counts once.
WITH
    sum(compute_ns) / sum(busy_ns) AS model,
    pow(1 - model, 2) * sum(compute_var_us2) + pow(model, 2) * sum(tax_var_us2)
        - 2 * (1 - model) * model * sum(compute_tax_cov_us2) AS tax_var_us2_all,
    [sum(data_loading_ns), sum(preprocess_ns), sum(logging_ns), sum(postprocess_ns),
         sum(serving_ns), sum(runtime_ns), sum(unattributed_ns)] AS taxes_ns,
    ['data_loading', 'preprocess', 'logging', 'postprocess',
         'serving', 'runtime', 'unattributed'] AS taxes
SELECT
    workload,
    workload_kind,
    uniqExact(host) AS hosts,
    count() AS windows,
    round(1 - model, 4) AS tax_ratio,
    if(countIf(isNull(compute_var_us2)) > 0, NULL,
       round(1000 * sqrt(greatest(tax_var_us2_all, 0)) / sum(busy_ns), 4)) AS tax_ratio_se,
    round((sum(busy_ns) - sum(compute_ns)) / 1000000000, 3) AS tax_seconds,
    arrayElement(taxes, indexOf(taxes_ns, arrayReduce('max', taxes_ns))) AS worst_stage
FROM excise.windows FINAL
WHERE start >= now() - 3600
GROUP BY workload, workload_kind
HAVING sum(busy_ns) > 0
ORDER BY tax_seconds DESC
LIMIT 20
