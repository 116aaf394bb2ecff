"""What runs in the caller's workflow. It reads the workflow's clock only, and does I/O through activities."""
