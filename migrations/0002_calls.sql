-- Calls that are over, as their files tell of them. Each call's rows can be made again from its files: those are the truth.
-- Times are nanoseconds since 1970: the order of calls is told by them.

CREATE TABLE calls (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- On whose disk its files are.
    node TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    answered_at BIGINT,
    ended_at BIGINT,
    duration_s DOUBLE PRECISION,
    mode TEXT NOT NULL,
    outcome TEXT,
    -- Since when its files are not where they were.
    files_gone_at BIGINT,
    -- Of the files that the rows were made from: another one, and they are made anew.
    version TEXT NOT NULL,
    -- What a search looks through, in lower case.
    search TEXT NOT NULL,
    -- As `<id>.call.json` has it.
    record TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE INDEX calls_listed ON calls (node, started_at, id);
CREATE INDEX calls_listed_of_tenant ON calls (node, tenant, started_at, id);
CREATE INDEX calls_by_id ON calls (id);

CREATE TABLE legs (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    -- `caller` or `callee`.
    name TEXT NOT NULL,
    codec TEXT NOT NULL,
    packets_received BIGINT NOT NULL,
    packets_lost BIGINT NOT NULL,
    -- Known from the integrity report alone.
    packets_expected BIGINT,
    packets_late BIGINT,
    packets_duplicate BIGINT,
    packets_repaired BIGINT,
    clock_ppm DOUBLE PRECISION,
    jitter_ms DOUBLE PRECISION NOT NULL,
    mos DOUBLE PRECISION,
    PRIMARY KEY (tenant, call_id, name),
    FOREIGN KEY (tenant, call_id) REFERENCES calls (tenant, id) ON DELETE CASCADE
);

CREATE TABLE recordings (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    status TEXT NOT NULL,
    -- From the data folder.
    path TEXT NOT NULL,
    sha256 TEXT,
    sample_rate BIGINT,
    duration_s DOUBLE PRECISION,
    -- Since when the file is not where it was.
    gone_at BIGINT,
    -- The integrity report, as it lies beside the recording.
    report TEXT,
    PRIMARY KEY (tenant, call_id),
    FOREIGN KEY (tenant, call_id) REFERENCES calls (tenant, id) ON DELETE CASCADE
);

CREATE TABLE transcripts (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    complete BIGINT NOT NULL,
    speakers BIGINT NOT NULL,
    model TEXT NOT NULL,
    duration_s DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant, call_id),
    FOREIGN KEY (tenant, call_id) REFERENCES calls (tenant, id) ON DELETE CASCADE
);

-- What was said, as its finals gave it.
CREATE TABLE utterances (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    -- In the order of the transcript.
    place BIGINT NOT NULL,
    leg TEXT NOT NULL,
    utterance BIGINT NOT NULL,
    start_s DOUBLE PRECISION NOT NULL,
    end_s DOUBLE PRECISION NOT NULL,
    language TEXT NOT NULL,
    -- The mean of its words'.
    confidence DOUBLE PRECISION,
    text TEXT NOT NULL,
    -- JSON, `[{"text", "start", "end", "confidence"}]`: they are read with their utterance and never without it, and a row a word would be
    -- ten times as many rows.
    words TEXT NOT NULL,
    PRIMARY KEY (tenant, call_id, place),
    FOREIGN KEY (tenant, call_id) REFERENCES calls (tenant, id) ON DELETE CASCADE
);

-- As they were published; but for partials, which say what their final says, and are nine in ten of all that is published.
CREATE TABLE events (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    type TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- The whole envelope.
    body TEXT NOT NULL,
    PRIMARY KEY (tenant, call_id, seq),
    FOREIGN KEY (tenant, call_id) REFERENCES calls (tenant, id) ON DELETE CASCADE
);
