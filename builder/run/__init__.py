"""A build: plan, shards, resume, progress, and the executors that do the work."""
