-- Counting reads this alone, and not a row of every job that ever was.
CREATE INDEX jobs_counted ON jobs (tenant, kind, state, priority, created_at);
