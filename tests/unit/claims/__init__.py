"""What reads for jobs."""
