-- The same text runs on SQLite and on PostgreSQL: hence no other types than these, and times as milliseconds since 1970.

CREATE TABLE jobs (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    -- 1 goes before 0.
    priority BIGINT NOT NULL,
    -- In the order in which they were accepted.
    place BIGINT NOT NULL,
    -- Not before this time.
    run_after BIGINT NOT NULL,
    -- Whose it is to do: empty, everybody's; `broker`, whoever the broker delivers it to; else that process's, which has it from the broker.
    holder TEXT NOT NULL,
    -- While it is processed: by which process, and until when that is believed without a sign of life.
    owner TEXT,
    lease_until BIGINT,
    attempts BIGINT NOT NULL,
    cancel BIGINT NOT NULL,
    payload TEXT NOT NULL,
    -- Where it came from and where its result goes.
    route TEXT NOT NULL,
    -- What an attempt has to remember across a crash.
    memo TEXT,
    progress DOUBLE PRECISION,
    result TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    PRIMARY KEY (tenant, id)
);

CREATE INDEX jobs_to_do ON jobs (kind, state, priority, place);
CREATE INDEX jobs_listed ON jobs (tenant, place);
CREATE INDEX jobs_finished ON jobs (state, finished_at);

-- What has to leave this machine because of a job: written with what caused it, removed when it has arrived.
CREATE TABLE outbox (
    place BIGINT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    -- `queue` or `webhook`.
    transport TEXT NOT NULL,
    address TEXT NOT NULL,
    headers TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    run_after BIGINT NOT NULL
);

CREATE INDEX outbox_due ON outbox (transport, run_after, place);
