"""Object stores, Redis and the job queue."""
