-- Excise's tables in ClickHouse, of version 18.16 or later. Apply it with
--     clickhouse-client --multiquery < schema.sql
-- Tables that are there stay as they are. An agent's columns that they do not have are skipped.
--
-- A row may arrive twice: an agent that got no answer sends it again. It is the same in every column then, and in its
-- place in the sorting key, so that ReplacingMergeTree drops one when it merges; until then both are there. Ask with
-- FINAL, which sees one.
--
-- Times are nanoseconds, wall-clock ones since 1970; `start` is made of start_ns here. NULL: not known, which is not 0.

CREATE DATABASE IF NOT EXISTS excise;

-- A window of a workload: 10 s, as an agent makes them.
CREATE TABLE IF NOT EXISTS excise.windows (
    agent String,  -- id; (agent, sequence) names a window for ever
    sequence UInt64,
    host String,
    version String,  -- of Excise
    workload String,
    workload_kind String,  -- rule, unit, container, pod, process
    start_ns UInt64,
    end_ns UInt64,
    start DateTime('UTC') MATERIALIZED toDateTime(intDiv(start_ns, 1000000000)),
    observed_ns UInt64,  -- monotonic clock
    processes UInt32,
    comms Array(String),  -- their names, each once
    total_ns UInt64,  -- of all carrier threads
    busy_ns UInt64,  -- total without idle and handoff: what the AI tax is a share of
    data_loading_ns UInt64,
    preprocess_ns UInt64,
    compute_ns UInt64,
    logging_ns UInt64,
    postprocess_ns UInt64,
    serving_ns UInt64,
    runtime_ns UInt64,
    handoff_ns UInt64,
    idle_ns UInt64,
    unattributed_ns UInt64,
    ai_tax_ratio Nullable(Float64),  -- 1 - compute_ns / busy_ns
    ai_tax_se Nullable(Float64),  -- its standard error
    compute_var_us2 Nullable(Float64),  -- what that is made of: these add up over windows
    tax_var_us2 Nullable(Float64),
    compute_tax_cov_us2 Nullable(Float64),
    -- of the process tree
    cpu_ns Nullable(UInt64),  -- CPU time of the process tree, user and system
    throttled_ns Nullable(UInt64),  -- time that the cgroup's quota kept it off its CPUs
    quota_millicpus Nullable(UInt64),  -- the quota, thousandths of a CPU
    allowed_cpus Nullable(UInt64),  -- CPUs that it may use
    rss_bytes Nullable(UInt64),  -- resident memory of the tree
    disk_read_bytes Nullable(UInt64),  -- read from block devices
    disk_write_bytes Nullable(UInt64),  -- written to block devices
    net_in_bytes Nullable(UInt64),  -- received in its network namespace, loopback aside
    net_out_bytes Nullable(UInt64),  -- sent in its network namespace, loopback aside
    threads Nullable(UInt64),  -- threads that lived in a window
    carriers Nullable(UInt64),  -- of these, threads that ran Python
    listen_ports Nullable(UInt64),  -- ports that it listens on, how many
    -- how far the rest can be trusted
    samples Nullable(UInt64),  -- timer samples
    carrier_samples Nullable(UInt64),  -- of these, samples of carriers
    running_ns Nullable(UInt64),  -- our running time of the threads that schedstat was read for
    sched_running_ns Nullable(UInt64),  -- the same by schedstat
    runnable_ns Nullable(UInt64),  -- our run-queue time of these threads
    sched_runnable_ns Nullable(UInt64),  -- the same by schedstat
    -- what the watching cost
    agent_ns Nullable(UInt64),  -- CPU time of Excise's processes
    bpf_ns Nullable(UInt64),  -- CPU time inside of its kernel programs
    tick_ns Nullable(UInt64),  -- CPU time of its timer ticks and traps outside of the programs
    target_cpu_ns Nullable(UInt64),  -- CPU time of the target meanwhile: what the cost is a share of
    lost Nested (name String, count UInt64)  -- records that were lost within the window, by reason
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (workload, start, agent, sequence);

-- The ledger: a window's carrier time by class and state; all processes of the workload together.
CREATE TABLE IF NOT EXISTS excise.stages (
    agent String,
    sequence UInt64,
    host String,
    workload String,
    workload_kind String,
    start_ns UInt64,
    start DateTime('UTC') MATERIALIZED toDateTime(intDiv(start_ns, 1000000000)),
    stage String,  -- data_loading, preprocess, compute, ...
    class String,  -- the stage, or a part of it: compute.gpu
    state String,  -- running_user, io, gil, ...
    ns UInt64,
    variance_us2 Nullable(Float64)  -- of the estimate; 0: exact. A stage's do not add up: its parts vary together
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (workload, start, agent, sequence, class, state);

-- The heaviest stacks, of agents with `stacks = true`.
CREATE TABLE IF NOT EXISTS excise.stacks (
    agent String,
    sequence UInt64,
    host String,
    workload String,
    workload_kind String,
    start_ns UInt64,
    start DateTime('UTC') MATERIALIZED toDateTime(intDiv(start_ns, 1000000000)),
    stage String,
    class String,
    state String,
    stack UInt64,  -- id, of the frames: the same on every host
    ns UInt64,
    count UInt64,  -- records behind it
    frames Nested (kind String, name String, file String, line UInt32)  -- leaf first
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(start)
ORDER BY (workload, start, agent, sequence, class, state, stack);

-- Windows that no sink will bring: sequence numbers from first to last. A gap that is sent again may have grown; the
-- longest stays. A window of it that is in `windows` all the same arrived before it was given up.
CREATE TABLE IF NOT EXISTS excise.gaps (
    agent String,
    host String,
    version String,
    first UInt64,
    last UInt64,
    reason String,  -- crash, aged, full, disk_full, damaged, rejected
    received DateTime('UTC') MATERIALIZED now()
) ENGINE = ReplacingMergeTree(last)
ORDER BY (agent, first);
