"""The activities that read and record for a job, on the job's worker. They execute nothing."""
