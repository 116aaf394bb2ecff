"""What runs on the worker that executes an activity under a key, around the activity itself."""
