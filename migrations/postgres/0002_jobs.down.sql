DROP TABLE job_errors;
DROP TABLE job_chunks;
DROP TABLE jobs;
